"""The ticket's own verification script, as it stands there, against `usa up`."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from tests.fixtures.processes import ROOT
from tests.fixtures.strangers import clean_environment, free_port
from tests.fixtures.tools import needed_program
from tests.fixtures.waiting import eventually

SCRIPT = Path(__file__).with_name("usa_38_verification.sh")

for _program in ("bash", "curl", "jq"):
    needed_program(_program)


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """What `usa up --json` says of itself, while it runs."""
    told = tmp_path / "told.json"
    environment = clean_environment() | {
        "USA_HOME": str(tmp_path / "home"),
        "USA_OFFLINE_PACE": "0.3",
        "PORT": str(free_port()),
    }
    with told.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "up", "--json"],
            cwd=ROOT, env=environment, stdout=output, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    facts = await eventually(lambda: told.read_bytes().strip(), within=30.0, what="usa up is ready")
    yield orjson.loads(facts)
    process.terminate()
    assert process.wait(20) == 0


async def test_the_tickets_verification_script_does_what_the_ticket_says(
    up: dict[str, str],
) -> None:
    script = SCRIPT.read_text().replace("http://localhost:3000", up["apiUrl"])
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "TOKEN": up["apiKey"]},
        capture_output=True, check=False, timeout=50,
    )  # fmt: skip

    polled, _, rest = done.stdout.decode().partition("Status: completed\n")
    assert done.returncode == 0, done.stderr
    assert rest, polled
    result, _, cancelled = rest.rpartition("}\n")
    assert orjson.loads(result + "}")["models"] == ["offline"]
    assert orjson.loads(cancelled)["status"] == "cancelled"
