"""Every line of the protocol names a test that exists, or says why it has none yet."""

import ast
import re
from functools import cache

import pytest

from tests.architecture.sources import ROOT

TABLE = (ROOT / "tests" / "PROTOCOL.md").read_text()
HEADINGS = [
    "Claim and acknowledge",
    "Guarded writes",
    "Leases and outages",
    "Batches",
    "Ledger and reservation",
    "Events",
    "Found on the way",
]
# What needs what is not there yet; anything else needs a test.
LATER = re.compile(r"not in this version: \w.+")


def _rows() -> list[tuple[str, str]]:
    cells = [line.strip("| ").split(" | ") for line in TABLE.splitlines() if line.startswith("| ")]
    return [(claim, tests) for claim, tests in cells if claim != "What holds"]


ROWS = _rows()


@pytest.mark.parametrize(("claim", "tests"), ROWS, ids=[claim for claim, _ in ROWS])
def test_a_line_names_tests_that_exist(claim: str, tests: str) -> None:
    if LATER.fullmatch(tests):
        return
    nodes = [
        re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", each) for each in tests.split("<br>")
    ]
    assert None not in nodes, tests
    missing = [node[0] for node in nodes if node and node[2] not in _tests_in(node[1])]
    assert missing == []


@cache
def _tests_in(path: str) -> set[str]:
    """Return the names of a module's tests."""
    file = ROOT / path
    tree = ast.parse(file.read_text()) if file.exists() else ast.Module([], [])
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, functions)}


def test_only_what_a_cluster_needs_is_left_for_later() -> None:
    later = [claim for claim, tests in ROWS if LATER.fullmatch(tests)]
    assert [claim for claim in later if not claim.startswith("In a cluster ")] == []


def test_every_part_of_the_protocol_has_its_lines() -> None:
    parts = re.findall(
        r"^## (.+)\n\n\| What holds \| Tests \|\n\|---\|---\|\n\| ", TABLE, re.MULTILINE
    )
    assert parts == HEADINGS


def test_no_line_is_there_twice() -> None:
    assert len({claim for claim, _ in ROWS}) == len(ROWS) > 80
