"""Each Lua file says what it does, what it takes and returns, and has its function."""

import re
from itertools import takewhile
from pathlib import Path

import pytest

from service.streams import scripts
from tests.architecture.sources import SERVICE

LUA = sorted((SERVICE / "streams" / "lua").glob("*.lua"))

by_name = pytest.mark.parametrize("script", LUA, ids=lambda path: path.stem)


# They all begin with the key of the bucket, and that holds the hash tag.
BUDGET = {"bucket", "queue", "tickets", "users", "peers"}
CONTRACT = ["-- KEYS", "-- ARGV", "-- returns"]


@by_name
def test_a_script_begins_with_a_sentence_and_its_contract(script: Path) -> None:
    lines = script.read_text().splitlines()
    head = list(takewhile(lambda line: line.startswith("--"), lines))
    labels = [label for line in head if (label := line.partition(": ")[0]) in CONTRACT]
    assert re.match(r"-- [A-Z].+[.:;]$", head[0])
    assert labels == CONTRACT


@by_name
def test_a_script_touches_no_key_that_it_was_not_given(script: Path) -> None:
    code = "\n".join(x for x in script.read_text().splitlines() if not x.startswith("--"))
    assert "usa" not in code
    assert "redis.call('KEYS'" not in code


@by_name
def test_a_script_works_on_one_stream_rate_or_budget_and_so_in_one_slot(script: Path) -> None:
    (keys,) = re.findall(r"^-- KEYS: (.+)$", script.read_text(), re.MULTILINE)
    assert keys in {"stream", "rate"} or set(keys.split(", ")) <= BUDGET


def test_every_script_has_its_function_and_every_function_its_script() -> None:
    declared = {value.name for value in vars(scripts).values() if isinstance(value, scripts.Script)}
    assert declared == {path.stem for path in LUA} != set()
