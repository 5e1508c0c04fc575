"""Commands print no secret, whatever they complain of."""

import asyncio
from pathlib import Path

import pytest

from tests.acceptance.stage import Stage
from tests.integration.cli.usa import Done, Usa

pytestmark = pytest.mark.timeout(240)

_NOBODY_THERE = "127.0.0.1:1"


async def test_no_command_prints_a_secret(stage: Stage, tmp_path: Path) -> None:
    await stage.start("api")
    usa = Usa(tmp_path, stage.environment | {"PORT": "0", "USA_METRICS_PORT": "0"})
    done: dict[tuple[str, str], Done] = {}
    for name, variables, commands in surroundings(stage):
        for command in commands:
            ended = await asyncio.to_thread(
                usa.run, *command.split(), story=stage.canaries.story, **variables
            )
            stage.surfaces.look(f"usa {command} ({name})", ended.out + ended.err)
            done[name, command] = ended

    assert stage.surfaces.leaks == []
    told = {each: ended.out + ended.err for each, ended in done.items()}
    succeeded = {each for each, ended in done.items() if ended.code == 0}
    assert succeeded == {each for each in done if each[0] == "right"}
    assert all(told.values())


def surroundings(stage: Stage) -> list[tuple[str, dict[str, str], list[str]]]:
    """What commands find, and those that have something to say about it."""
    database = f"postgresql://u:{stage.canaries.database_password}"
    valkey = f"redis://u:{stage.canaries.redis_password}"
    away = {
        "USA_DATABASE_URL": f"{database}@{_NOBODY_THERE}/usa",
        "USA_REDIS_URL": f"{valkey}@{_NOBODY_THERE}/0",
    }
    broken = {
        "USA_DATABASE_URL": f"{database}@host:port/usa?sslmode=perhaps",
        "USA_REDIS_URL": f"{valkey}@host:port/nought",
    }
    no_such = {
        "USA_DATABASE_URL": f"{stage.environment['USA_DATABASE_URL']}_nowhere",
        "USA_REDIS_URL": stage.environment["USA_REDIS_URL"].replace("usa_canary", "somebody"),
    }
    right = {"USA_API_URL": stage.address, "USA_API_KEY": stage.ann.key}
    return [
        (
            "right", right,
            ["config", "config --json", "config --markdown", "doctor", "doctor --json", "keys list",
             "migrate --check"],
        ),
        ("away", away, ["doctor", "migrate --check", "keys list"]),
        ("broken", broken, ["config", "doctor", "migrate --check", "worker"]),
        ("no such", no_such, ["doctor", "migrate --check", "worker"]),
        ("wrong key", right | {"USA_API_KEY": f"{stage.ann.key}x"}, ["jobs", "submit -"]),
        ("no service", right | {"USA_API_URL": f"http://{_NOBODY_THERE}"}, ["jobs", "submit -"]),
        ("bad url", right | {"USA_API_URL": f"http://{stage.ann.key}@host:x"}, ["jobs"]),
    ]  # fmt: skip
