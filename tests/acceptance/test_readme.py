"""Every command in the README works as it stands there."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.fixtures.readme import ROOT, all_commands, commands_under, python_under
from tests.fixtures.strangers import clean_environment, free_port
from tests.fixtures.tools import needed_program
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(180)

for _program in ("bash", "make", "curl", "jq"):
    needed_program(_program)

# Slow enough that a job can be cancelled while it runs, fast enough for a test.
PACE = "0.3"
LEFT_OUT = (".git", ".venv", ".usa", "__pycache__", ".*_cache", ".hypothesis")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the tree whose environment is the one that runs this test."""
    tree = tmp_path / "a checkout"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (tree / ".venv").symlink_to(sys.prefix)
    return tree


def environment(**variables: str) -> dict[str, str]:
    return clean_environment() | {
        "MAKEFLAGS": "INSTALLED=",
        "USA_METRICS_PORT": "0",
        "USA_OFFLINE_PACE": PACE,
        **variables,
    }


def shell(script: str) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", script]


def run(checkout: Path, script: str, **variables: str) -> str:
    """Run commands to their end and return what they print."""
    done = subprocess.run(
        shell(script),
        cwd=checkout,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}"
    return done.stdout


@asynccontextmanager
async def running(checkout: Path, script: str, **variables: str) -> AsyncIterator[None]:
    """Run commands that go on by themselves; Ctrl-C must then end them and all they started."""
    log = checkout / "output"
    with log.open("w") as output:
        process = subprocess.Popen(
            shell(script),
            cwd=checkout,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
        os.killpg(process.pid, signal.SIGINT)
        await eventually(lambda: has_ended(process), within=30, what="Ctrl-C ends everything")
    except BaseException:
        sys.stderr.write(log.read_text())
        raise
    finally:
        if not has_ended(process):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def has_ended(leader: subprocess.Popen[bytes]) -> bool:
    """Whether no process of a group is left."""
    leader.poll()
    try:
        os.killpg(leader.pid, 0)
    except ProcessLookupError:
        return True
    return False


def is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=3) as reply:
            return bool(reply.status == 200)
    except (URLError, ConnectionError, TimeoutError):
        return False


def test_every_section_with_commands_is_run_by_a_test_below() -> None:
    assert {commands.heading for commands in all_commands()} == {
        "Two commands",
        "Use it",
        "Run it on your own servers",
        "Add an iteration",
        "Code map",
    }


def test_make_demo_shows_an_improved_story_and_leaves_nothing_behind(checkout: Path) -> None:
    demo, _ = commands_under("Two commands")
    assert demo == "make demo\n"

    printed = run(checkout, demo)

    for shown in ("As a returning customer", "AC-OUT-3", "completed", "offline", "$0"):
        assert shown in printed
    assert not (checkout / ".usa").exists()


def test_make_test_is_what_ci_runs() -> None:
    _, test = commands_under("Two commands")
    assert test == "make test\n"
    steps = (ROOT / ".ci" / "run").read_text().splitlines()
    assert steps[-1].startswith("make test ")


async def test_a_story_can_be_submitted_watched_read_and_cancelled(checkout: Path) -> None:
    up, session, command_line = commands_under("Use it")
    port = free_port()
    async with running(checkout, up, PORT=str(port)):
        await eventually(lambda: is_ready(port), within=60, what="`make up` is ready")

        printed = run(checkout, session.replace(":3000/", f":{port}/"))
        followed = run(checkout, command_line, USA_API_URL=f"http://127.0.0.1:{port}")
        (checkout / "example.py").write_text(python_under("Use it").replace(":3000", f":{port}"))
        from_python = run(checkout, ".venv/bin/python example.py")

    ids = [
        tuple(map(int, found)) for found in re.findall(r"^id: ?(\d+)-(\d+)$", printed, re.MULTILINE)
    ]
    assert ids == sorted(set(ids)) != []
    assert len(re.findall(r"^event: ?complete$", printed, re.MULTILINE)) == 1
    assert '"outcomeAcceptanceCriteria"' in printed
    assert re.search(r"^#+ ", printed, re.MULTILINE)
    assert re.search(r'"status": ?"cancelled"', printed.splitlines()[-1])
    assert "completed" in followed
    assert "cancelled" in followed
    assert re.search(r"^1-1 start$", from_python, re.MULTILINE)
    assert from_python.splitlines()[-1] == "completed 0.0"


async def test_processes_of_their_own_run_on_given_servers(
    checkout: Path, redis_url: str, database_url: str
) -> None:
    [script] = commands_under("Run it on your own servers")
    script = re.sub(r"(REDIS_URL=).*", rf"\1{redis_url}", script)
    script = re.sub(r"(DATABASE_URL=).*", rf"\1'{database_url}'", script)
    script = script.replace("USA_METRICS_PORT=9101", f"USA_METRICS_PORT={(health := free_port())}")
    port = free_port()
    own = {"PORT": str(port), "USA_MODEL": "offline"}
    async with running(checkout, f"{script}\nwait", **own):
        await eventually(lambda: is_ready(port), within=60, what="`usa api` is ready")
        await eventually(lambda: is_ready(health), within=60, what="`usa worker` is ready")


def test_the_tests_of_iterations_are_where_it_says(checkout: Path) -> None:
    [script] = commands_under("Add an iteration")
    assert re.search(r"\d+ passed", run(checkout, script))


def test_make_bench_prints_its_measurement(checkout: Path) -> None:
    [script] = commands_under("Code map")
    assert '"jobs_per_second"' in run(checkout, script)
