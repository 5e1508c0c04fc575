"""What the command line says of itself."""

import shlex
from pathlib import Path

import pytest

from service.cli.output import this_command


def test_the_command_to_type_is_one_word_for_the_shell_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "my folder" / "bin" / "usa"
    installed.parent.mkdir(parents=True)
    installed.touch()
    monkeypatch.setattr("sys.executable", str(installed.with_name("python")))
    monkeypatch.setenv("PATH", "")

    assert shlex.split(this_command()) == ["my folder/bin/usa"]
