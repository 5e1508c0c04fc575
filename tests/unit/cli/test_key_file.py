"""The key that a client sends, and the file that keeps it."""

import os
import stat
from pathlib import Path

import pytest

from service.cli.exit_codes import ExitCode
from service.cli.failures import Failure
from service.cli.key_file import credentials, keep_key, read_key


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_the_kept_key_is_for_this_user_only(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        keep_key(tmp_path / "home", "usa_00000000_first")
    finally:
        os.umask(before)
    mode = (tmp_path / "home" / "key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_keeping_another_key_replaces_the_first_whole(tmp_path: Path) -> None:
    keep_key(tmp_path, "usa_00000000_a-rather-long-first-one")
    (tmp_path / "key").chmod(0o644)
    keep_key(tmp_path, "usa_00000001_b")
    assert read_key(tmp_path) == "usa_00000001_b"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_what_a_killed_run_left_half_written_does_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / "key.new").write_text("usa_0")
    keep_key(tmp_path, "usa_00000001_b")
    assert read_key(tmp_path) == "usa_00000001_b"


def test_a_key_that_was_never_kept_or_is_empty_is_none(tmp_path: Path) -> None:
    assert read_key(tmp_path) is None
    (tmp_path / "key").write_text("\n")
    assert read_key(tmp_path) is None


def test_a_key_that_cannot_be_read_is_a_failure_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(Failure, match="cannot read the key") as caught:
        read_key(tmp_path)
    assert caught.value.code is ExitCode.SETTINGS
    assert str(tmp_path / "key") in str(caught.value)


def test_the_environment_comes_before_the_kept_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_key(Path(".usa"), "usa_00000000_kept")
    assert credentials() == ("http://127.0.0.1:3000", "usa_00000000_kept")
    monkeypatch.setenv("USA_API_KEY", "usa_00000000_given")
    monkeypatch.setenv("USA_API_URL", "https://stories.example.com/base")
    assert credentials() == ("https://stories.example.com/base", "usa_00000000_given")


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_key(Path(".usa"), "usa_00000000_kept")
    monkeypatch.setenv("USA_API_KEY", "")
    monkeypatch.setenv("USA_API_URL", "")
    assert credentials() == ("http://127.0.0.1:3000", "usa_00000000_kept")


def test_the_home_folder_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keep_key(tmp_path / "elsewhere", "usa_00000000_kept")
    monkeypatch.setenv("USA_HOME", str(tmp_path / "elsewhere"))
    assert credentials()[1] == "usa_00000000_kept"
