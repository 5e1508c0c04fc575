"""`usa up`: everything on one machine, reached at once, gone when it is."""

import json
import re
import signal
import stat
import subprocess

import pytest

from tests.fixtures.strangers import free_port
from tests.fixtures.waiting import eventually
from tests.integration.cli.usa import STORY, Started, Usa, processes_using

pytestmark = pytest.mark.timeout(120)

READY = "Ctrl-C stops it"


async def facts_of(up: Started) -> dict[str, str]:
    """What `usa up --json` prints once it is up."""
    await up.prints("version")
    facts: dict[str, str] = json.loads(up.out)
    return facts


async def test_what_it_prints_is_enough_to_submit_a_story(usa: Usa) -> None:
    with usa.started("up") as up:
        printed = await up.prints(READY)

        curl = re.findall(r"^ *(curl .*)$", printed, re.MULTILINE)
        answer = subprocess.run(curl[0], shell=True, capture_output=True, check=True)  # noqa: S602 - what a person pastes
        metrics = re.findall(r"(http://127\.0\.0\.1:\d+/metrics)", printed)
        shown = subprocess.run(["curl", "-sf", metrics[0]], capture_output=True, check=True)

    assert len(curl) == 1
    assert json.loads(answer.stdout)["job"]["status"] == "queued"
    assert b"usa_jobs_accepted_total 1.0" in shown.stdout
    assert "offline: rules write the stories, no model is called" in printed


async def test_the_command_that_it_shows_works_as_it_stands(usa: Usa) -> None:
    with usa.started("up") as up:
        printed = await up.prints(READY)
        shown = re.findall(r"^ *(echo .*)$", printed, re.MULTILINE)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", shown[0]],
            cwd=usa.folder,
            env=usa.environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Log in\n")


async def test_the_command_that_it_shows_finds_the_key_where_it_is_kept(usa: Usa) -> None:
    usa.variables["USA_HOME"] = str(usa.folder / "a home")
    with usa.started("up") as up:
        printed = await up.prints(READY)
        shown = re.findall(r"^ *(echo .*)$", printed, re.MULTILINE)
        del usa.variables["USA_HOME"]
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", shown[0]],
            cwd=usa.folder,
            env=usa.environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr


async def test_the_record_of_its_key_names_scopes_as_people_do(usa: Usa) -> None:
    with usa.started("up") as up:
        await up.prints(READY)
        assert "scopes=['admin', 'jobs:read'," in up.err


async def test_its_key_is_kept_for_this_user_only_and_used_again(usa: Usa) -> None:
    keys = []
    for _ in range(2):
        with usa.started("up", "--json") as up:
            facts = await facts_of(up)
            keys.append(facts["apiKey"])
            up.send(signal.SIGINT)
            assert (await up.ended()).code == 0
    assert (usa.home / "key").read_text() == f"{keys[0]}\n"
    assert stat.S_IMODE((usa.home / "key").stat().st_mode) == 0o600
    assert keys[0] == keys[1]


async def test_a_kept_key_that_no_longer_works_is_replaced(usa: Usa) -> None:
    with usa.started("up", "--json") as up:
        first = (await facts_of(up))["apiKey"]
        assert usa.run("keys", "revoke", first).code == 0
        up.send(signal.SIGTERM)
        await up.ended()
    with usa.started("up", "--json") as up:
        facts = await facts_of(up)
        usa.variables["USA_API_URL"] = facts["apiUrl"]
        assert facts["apiKey"] != first
        assert usa.run("jobs", "--json").document == {"jobs": [], "nextCursor": None}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_and_its_servers_in_order(usa: Usa, number: signal.Signals) -> None:
    with usa.started("up", "--json") as up:
        await facts_of(up)
        assert len(processes_using(usa.folder)) >= 2
        up.send(number)
        done = await up.ended()
    assert done.code == 0, done.err
    assert done.err.splitlines()[-1] == "stopped"
    assert "Traceback" not in done.err
    assert processes_using(usa.folder) == []
    assert list((usa.folder / "tmp").iterdir()) == []
    assert "no database" in usa.run("keys", "list").err


async def test_running_jobs_are_taken_up_at_the_next_start(usa: Usa) -> None:
    usa.variables |= {"USA_OFFLINE_PACE": "1", "USA_SHUTDOWN_GRACE": "0.5"}
    with usa.started("up", "--json") as up:
        usa.variables["USA_API_URL"] = (await facts_of(up))["apiUrl"]
        accepted = usa.run("submit", "-", "--iterations", "security", "--json", story=STORY)
        job = accepted.document["job"]["id"]
        await eventually(lambda: "processing" in usa.run("jobs").out, what="it runs")
        up.send(signal.SIGINT)
        assert (await up.ended()).code == 0
    usa.variables["USA_OFFLINE_PACE"] = "0"
    with usa.started("up", "--json") as up:
        usa.variables["USA_API_URL"] = (await facts_of(up))["apiUrl"]
        watched = usa.run("watch", job)
    assert watched.code == 0
    assert watched.out.startswith("# Log in\n")


async def test_a_second_signal_leaves_without_waiting_for_jobs(usa: Usa) -> None:
    usa.variables |= {"USA_OFFLINE_PACE": "50", "USA_SHUTDOWN_GRACE": "300"}
    with usa.started("up", "--json") as up:
        usa.variables["USA_API_URL"] = (await facts_of(up))["apiUrl"]
        usa.run("submit", "-", story=STORY)
        await eventually(lambda: "processing" in usa.run("jobs").out, what="it runs")
        up.send(signal.SIGINT)
        await up.tells("running jobs may end first")
        assert not up.has_ended
        up.send(signal.SIGINT)
        done = await up.ended()
    assert done.code == 0, done.err
    for trouble in ("Traceback", "[error", "[warning"):
        assert trouble not in done.err
    assert processes_using(usa.folder) == []


async def test_kill_9_leaves_no_server_and_the_folder_usable(usa: Usa) -> None:
    with usa.started("up", "--json") as up:
        key = (await facts_of(up))["apiKey"]
        up.send(signal.SIGKILL)
        await eventually(lambda: processes_using(usa.folder) == [], within=15, what="all is gone")
    assert "no database" in usa.run("keys", "list").err
    with usa.started("up", "--json") as up:
        assert (await facts_of(up))["apiKey"] == key


async def test_one_folder_is_for_one_service(usa: Usa) -> None:
    with usa.started("up", "--json") as up:
        await facts_of(up)
        second = usa.run("up")
    assert second.code == 9
    assert f"another `usa up` uses this folder (pid {up.popen.pid})" in second.err
    assert "Traceback" not in second.err


async def test_a_busy_port_is_named_and_nothing_stays_behind(usa: Usa) -> None:
    port = free_port()
    usa.variables["PORT"] = str(port)
    with usa.started("model-stub", "--port", str(port)) as stub:
        await stub.prints("listening")
        refused = usa.run("up")
    assert refused.code == 9
    assert f"usa: port {port} is in use" in refused.err
    assert refused.out == ""
    assert processes_using(usa.folder) == []


def test_a_wrong_setting_stops_it_before_anything_starts(usa: Usa) -> None:
    usa.variables["USA_CONCURRENCY"] = "0"
    refused = usa.run("up")
    assert refused.code == 3
    assert refused.err.startswith("usa: USA_CONCURRENCY: ")
    assert not usa.home.exists()


def test_claude_without_a_key_is_refused(usa: Usa) -> None:
    usa.variables["USA_MODEL"] = "anthropic"
    refused = usa.run("up")
    assert refused.code == 3
    assert "ANTHROPIC_API_KEY" in refused.err
    assert refused.out == ""
