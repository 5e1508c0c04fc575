"""`make check` holds the floors up: an import that points up or sideways turns it red."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT
from tests.fixtures.strangers import clean_environment
from tests.fixtures.tools import needed_module, needed_program

needed_module("importlinter")
MAKE = needed_program("make")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of all that `make floors` looks at."""
    shutil.copytree(
        ROOT / "service", tmp_path / "service", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def make(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in a tree with the environment that runs this test."""
    command = [MAKE, *arguments, f"PY={sys.executable}", "INSTALLED="]
    # Not ours: `make test` has put its own options there.
    environment = clean_environment()
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


def add_import(module: Path, line: str) -> None:
    module.write_text(f"{module.read_text()}\n{line}\n")


def test_the_floors_hold(tree: Path) -> None:
    told = make(tree, "floors")
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("worker/processor.py", "import service.streams.keys", "Floors"),
        ("postgres/pool.py", "from service.worker import leases", "Floors"),
        ("supervision.py", "from service.api import problems", "Floors"),
        ("domain/job.py", "import service.ports", "Floors"),
        ("domain/job.py", "import asyncio", "Domain is pure"),
        ("domain/job.py", "from time import time", "Domain is pure"),
    ],
)
def test_an_import_against_the_floors_is_found(
    tree: Path, module: str, line: str, broken: str
) -> None:
    add_import(tree / "service" / module, line)

    told = make(tree, "floors")

    assert told.returncode != 0
    verdicts = [text for text in told.stdout.splitlines() if text.endswith(" BROKEN")]
    assert any(verdict.startswith(broken) for verdict in verdicts), told.stdout


def test_a_room_that_no_floor_lists_is_found(tree: Path) -> None:
    (tree / "service" / "attic").mkdir()
    (tree / "service" / "attic" / "__init__.py").write_text('"""Unlisted."""\n')

    told = make(tree, "floors")

    assert told.returncode != 0
    assert "service.attic" in told.stdout


def test_check_looks_at_format_lint_floors_and_types() -> None:
    planned = make(ROOT, "--dry-run", "check").stdout
    for step in ("ruff format --check .", "ruff check .", "lint_imports_command", "-m mypy"):
        assert step in planned


@pytest.mark.parametrize(
    "line", ["import os\n\nHOME = os.environ", "import asyncio\n\nT = asyncio.create_task"]
)
def test_what_one_module_owns_is_banned_everywhere_else(tree: Path, line: str) -> None:
    add_import(tree / "service" / "worker" / "processor.py", line)

    told = make(tree, "lint")

    assert told.returncode != 0
    assert "TID251" in told.stdout
