"""`make` on a machine that has only just got the sources."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.readme import ROOT
from tests.fixtures.strangers import clean_environment
from tests.fixtures.tools import needed_program

MAKE = needed_program("make")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What `make` looks at before anything is installed."""
    for path in ("Makefile", "pyproject.toml", "requirements/dev.lock", "requirements/ci.lock"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / path, tmp_path / path)
    return tmp_path


def make(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MAKE, *arguments],
        cwd=tree,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def python_that(tree: Path, condition: str) -> str:
    """Return an interpreter that fails where a condition of the shell holds for its code."""
    path = tree / "python"
    path.write_text(
        f'#!/bin/sh\ncase "$2" in {condition}) exit 1 ;; esac\nexec "{sys.executable}" "$@"'
    )
    path.chmod(0o755)
    return f"PYTHON={path}"


def test_too_old_a_python_is_said_in_one_line(tree: Path) -> None:
    told = make(tree, "demo", python_that(tree, "*version_info*"))
    first, *others = told.stderr.splitlines()
    assert first == "Python 3.11 or later is needed: make PYTHON=python3.12"
    assert [line for line in others if not line.startswith("make: ***")] == []
    assert told.returncode != 0


def test_without_the_venv_module_one_line_says_what_to_install(tree: Path) -> None:
    told = make(tree, "demo", python_that(tree, "*ensurepip*"))
    first, *others = told.stderr.splitlines()
    assert first == "The venv module is needed: apt install python3-venv"
    assert [line for line in others if not line.startswith("make: ***")] == []
    assert not (tree / ".venv").exists()


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements/dev.lock"])
def test_only_a_change_of_what_is_needed_installs_again(tree: Path, changed: str) -> None:
    (tree / ".venv").mkdir()
    (tree / ".venv" / ".installed-dev").touch()
    assert make(tree, "--question", "install").returncode == 0

    later = time.time() + 60
    os.utime(tree / changed, (later, later))

    assert make(tree, "--question", "install").returncode == 1


def test_another_lock_is_another_installation(tree: Path) -> None:
    (tree / ".venv").mkdir()
    (tree / ".venv" / ".installed-dev").touch()
    assert make(tree, "--question", "install", "LOCK=requirements/ci.lock").returncode == 1


def test_make_alone_lists_what_there_is(tree: Path) -> None:
    listed = {line.split()[0] for line in make(tree).stdout.splitlines()}
    assert listed == {
        "help", "install", "demo", "up", "test", "check", "bench", "chaos", "contract", "evaluate",
        "mutants", "openapi", "lock", "clean",
    }  # fmt: skip
