"""Following a job: interrupted, cancelled, failed, at a terminal, over a restart."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.strangers import free_port
from tests.integration.cli.conftest import QUICK, beside_a_service
from tests.integration.cli.usa import STORY, Started, Usa

pytestmark = pytest.mark.timeout(120)

BEGUN = "security (1 of 1)"


async def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on(slow_service: Usa) -> None:
    job = slow_service.submit("--iterations", "security")
    with slow_service.started("watch", job) as watch:
        await watch.tells(BEGUN)
        watch.send(signal.SIGINT)
        interrupted = await watch.ended()
    assert (interrupted.code, interrupted.out) == (130, "")
    assert interrupted.err.endswith(f"usa watch {job}\n")
    assert "Traceback" not in interrupted.err

    again = slow_service.run("watch", job)
    assert again.code == 0
    assert again.out.startswith("# Log in\n")


async def test_ctrl_c_while_machines_follow_keeps_their_output_whole(slow_service: Usa) -> None:
    (slow_service.folder / "story").write_text(STORY)
    with slow_service.started("submit", "story", "--follow", "--json") as submit:
        await submit.prints('"event":"iteration:start"')
        submit.send(signal.SIGINT)
        interrupted = await submit.ended()
    job = interrupted.lines[0]["data"]["jobId"]
    assert interrupted.code == 130
    assert f"usa watch {job}" in interrupted.err


def test_a_job_that_runs_has_no_result_yet(slow_service: Usa) -> None:
    job = slow_service.submit("--iterations", "security")
    early = slow_service.run("result", job)
    document = slow_service.run("result", job, "--json")
    assert (early.code, early.out) == (8, "")
    assert f"usa watch {job}" in early.err
    assert document.code == 8
    assert document.document["result"] is None


async def test_a_cancelled_job_ends_whoever_watches_it(slow_service: Usa) -> None:
    job = slow_service.submit("--iterations", "security")
    with slow_service.started("watch", job) as watch:
        await watch.tells(BEGUN)
        cancelled = slow_service.run("cancel", job)
        ended = await watch.ended(within=5)
    assert (cancelled.code, cancelled.out) == (0, f"{job} is cancelled\n")
    assert (ended.code, ended.out) == (7, "")
    assert ended.err.endswith(f"cancelled: {job}\n")
    assert slow_service.run("cancel", job, "--json").document["status"] == "cancelled"
    assert slow_service.run("result", job).code == 7


def test_progress_is_redrawn_for_a_terminal(slow_service: Usa) -> None:
    job = slow_service.submit("--iterations", "security")
    ours, theirs = pty.openpty()
    watch = subprocess.Popen(
        [sys.executable, "-m", "service", "watch", job],
        cwd=slow_service.folder,
        env={**slow_service.environment, "TERM": "xterm-256color", "COLUMNS": "100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = read_all(ours)
    assert watch.wait() == 0
    assert "✓" in shown
    assert "\x1b[2K" in shown
    assert "# Log in\r\n" in shown
    # What was drawn last is the cursor, visible again.
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def read_all(terminal: int) -> str:
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65_536)
        except OSError:  # how Linux says that nobody has the other end open
            os.close(terminal)
            return shown.decode()


async def test_a_follower_stays_through_a_restart_of_the_service(usa: Usa) -> None:
    port = free_port()
    usa.variables |= {
        "PORT": str(port),
        "USA_API_URL": f"http://127.0.0.1:{port}",
        "USA_OFFLINE_PACE": "1",
        "USA_SHUTDOWN_GRACE": "0.5",
    }
    with usa.started("up", "--json") as up:
        await up.prints("version")
        job = usa.submit("--iterations", "validation,security")
        with usa.started("watch", job) as watch:
            await watch.tells("validation (1 of 2)")
            up.send(signal.SIGTERM)
            assert (await up.ended()).code == 0
            with usa.started("up", "--json") as second:
                await second.prints("version")
                watched = await watch.ended(within=40)
    assert watched.code == 0, watched.err
    assert watched.out.startswith("# Log in\n")
    assert "trying again" in watched.err


def test_a_job_that_the_model_refuses_fails_with_its_own_code(usa: Usa, tmp_path: Path) -> None:
    with usa.started("model-stub", "--fault", "refuse=1", "--json") as stub:
        address = asyncio.run(address_of(stub))
        variables = {**QUICK, "ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "sk-of-a-test"}
        with beside_a_service(tmp_path, variables) as beside:
            job = beside.submit("--iterations", "security")
            watched = beside.run("watch", job)
            result = beside.run("result", job, "--json")
        stub.send(signal.SIGINT)
        assert stub.popen.wait() == 0
    assert (watched.code, watched.out) == (6, "")
    assert "MODEL_REFUSED" in watched.err
    assert result.code == 6
    assert result.document["error"]["code"] == "MODEL_REFUSED"


async def address_of(stub: Started) -> str:
    document: dict[str, str] = json.loads(await stub.prints("}"))
    return document["address"]


async def test_a_story_by_claude_shows_its_models_and_its_price(usa: Usa, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with usa.started(
        "model-stub",
        "--json",
        "--pause",
        "0",
        "--only-key",
        "sk-of-a-test",
        "--ledger",
        str(ledger),
    ) as stub:
        address = await address_of(stub)
        usa.variables |= {"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "sk-of-a-test"}
        done = usa.run("demo")
    assert done.code == 0, done.err
    assert "Claude writes this story" in done.err
    assert "claude-sonnet-5-5" in done.err
    assert "offline" not in done.err
    assert "$0:" not in done.err
    assert ledger.read_text().count('"completed":true') >= 4
