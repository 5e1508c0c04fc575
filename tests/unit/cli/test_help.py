"""What `usa` says about itself, and how little it loads for that."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service import __version__
from service.cli.app import app
from service.cli.exit_codes import ExitCode

ROOT = Path(__file__).parents[3]
COMMANDS = [
    *("demo", "up", "submit", "watch", "result", "jobs", "cancel", "purge", "usage"),
    *("api", "worker", "migrate", "config", "doctor", "model-stub", "keys"),
    *("dead-letters", "queue", "limits", "openapi"),
]
# What only servers need.
SERVER_CODE = {
    "service.bootstrap",
    "service.api",
    "service.worker",
    "service.postgres",
    "service.streams",
    "service.embedded",
    "anthropic",
    "asyncpg",
    "redis",
    "prometheus_client",
}


def loaded_by(*arguments: str) -> set[str]:
    """The modules that are loaded when a command has ended."""
    script = (
        "import json, sys\n"
        "from service.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print('\\n' + json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={"USA_API_KEY": "usa_00000000_x", "USA_API_URL": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_listed_and_explains_itself(command: str) -> None:
    listed = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"})
    explained = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "120"})
    assert f" {command} " in listed.stdout
    assert explained.exit_code == 0
    assert "Usage: usa" in explained.stdout


def test_help_documents_every_exit_code_on_a_line_of_its_own() -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"}).stdout
    lines = [line.strip() for line in text.splitlines()]
    assert {f"{code.value}  {code.meaning}" for code in ExitCode} <= set(lines)


def test_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"{__version__}\n"


def test_help_loads_neither_servers_nor_clients() -> None:
    loaded = loaded_by("--help")
    assert "service.cli.app" in loaded
    assert loaded.isdisjoint(SERVER_CODE | {"aiohttp", "asyncio", "pydantic_settings"})


@pytest.mark.parametrize(
    "command",
    [["jobs"], ["usage"], ["queue", "show"], ["watch", "01a21088-29e1-77e7-bdbc-91ca6407d65d"]],
    ids=lambda c: c[0],
)
def test_a_client_loads_no_server_code_even_when_it_fails(command: list[str]) -> None:
    loaded = loaded_by(*command)
    assert "service.client.api_client" in loaded
    assert loaded.isdisjoint(SERVER_CODE)


def test_help_takes_less_than_half_a_second_of_work() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "service", "--help"], cwd=ROOT, capture_output=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
