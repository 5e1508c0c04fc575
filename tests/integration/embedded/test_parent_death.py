"""Embedded servers never outlive their parent, however it ends."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.embedded import EmbeddedServers
from service.embedded.locks import take_lock
from tests.integration.embedded.users import KINDS, Kind, first_line

DEADLINE_SECONDS = 15.0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def nobody_holds(lock: Path) -> bool:
    """Whether the server of this lock has ended with all its children, which hold it too."""
    descriptor = take_lock(lock, DEADLINE_SECONDS)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


@contextmanager
def killed_at_exit(parent: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with parent:
        try:
            yield parent
        finally:
            parent.kill()


@pytest.mark.parametrize("kind", KINDS)
def test_a_home_works_again_at_once_after_kill_9_of_its_parent(kind: Kind) -> None:
    with kind.home() as home:
        with killed_at_exit(kind.start(home)) as parent:
            first = json.loads(first_line(parent.stdout))
            parent.kill()
            parent.wait()
            with killed_at_exit(kind.start(home)) as successor:
                second = json.loads(first_line(successor.stdout))
                assert second["pids"] != first["pids"]
                assert not Path(first["sockets"]).exists()
        assert nobody_holds(home / "postgres.lock")


@pytest.mark.parametrize("kind", KINDS)
def test_kill_9_leaves_no_server_even_while_the_data_is_being_created(
    kind: Kind,
) -> None:
    with kind.home() as home:
        with killed_at_exit(kind.start(home)) as parent:
            wait_until((home / "postgres.unfinished" / "base").exists)
            parent.kill()
        assert nobody_holds(home / "postgres.lock")
        assert not (home / "postgres").exists()
        with killed_at_exit(kind.start(home)) as successor:
            pids = json.loads(first_line(successor.stdout))["pids"]
            assert not any(has_ended(pid) for pid in pids)
            successor.kill()
            wait_until(lambda: all(has_ended(pid) for pid in pids))
        assert nobody_holds(home / "valkey.lock")
        assert nobody_holds(home / "postgres.lock")


def test_servers_are_out_of_reach_of_ctrl_c_at_our_terminal(tmp_path: Path) -> None:
    with EmbeddedServers(tmp_path, durable=False) as servers:
        assert servers.valkey is not None
        assert servers.postgres is not None
        groups = {os.getpgid(servers.valkey.pid), os.getpgid(servers.postgres.pid)}
        assert os.getpgid(0) not in groups


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs somebody else for PostgreSQL")
def test_root_without_user_namespaces_is_told_which_folder_nobody_cannot_reach() -> None:
    kind = Kind("root-without-namespaces", namespaces=False)
    with kind.home() as home:
        with killed_at_exit(kind.start(home / "below")) as parent:
            _, complaint = parent.communicate(timeout=DEADLINE_SECONDS)
        assert f"nobody cannot reach {home}: run as a normal user" in complaint
        assert complaint.count("\n") == 1
        assert home.stat().st_mode & 0o777 == 0o700
