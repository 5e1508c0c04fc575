"""`usa up` that is killed takes its servers with it, and loses nothing."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import orjson

from service.client.api_client import ApiClient
from service.embedded.locks import take_lock
from tests.fixtures.processes import QUICK, ROOT
from tests.fixtures.strangers import clean_environment, free_port
from tests.fixtures.waiting import eventually


@dataclass(frozen=True)
class Up:
    """A running `usa up`, and what it says of itself."""

    process: subprocess.Popen[bytes]
    facts: dict[str, str]

    def client(self) -> ApiClient:
        return ApiClient(self.facts["apiUrl"], self.facts["apiKey"])


@asynccontextmanager
async def usa_up(home: Path) -> AsyncIterator[Up]:
    """Run `usa up` with its data in a folder, and kill it at the end."""
    environment = (
        clean_environment()
        | QUICK
        | {
            "USA_HOME": str(home),
            "USA_OFFLINE_PACE": "1",
            "PORT": str(free_port()),
        }
    )
    told = home.with_name("told.json")
    with told.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "up", "--json"],
            cwd=ROOT, env=environment, stdout=output, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        facts = await eventually(lambda: told.read_bytes().strip(), within=30, what="it is up")
        yield Up(process, orjson.loads(facts))
    finally:
        process.kill()
        process.wait()


def has_ended(home: Path, server: str) -> bool:
    """Whether nothing of a server is left: all its processes hold its lock."""
    lock = take_lock(home / f"{server}.lock")
    if lock is None:
        return False
    os.close(lock)
    return True


async def test_kill_9_leaves_no_server_behind_and_its_job_ends_in_the_next_start(
    tmp_path: Path,
) -> None:
    home = tmp_path / ".usa"
    async with usa_up(home) as first, first.client() as client:
        accepted = await client.submit("As a user, I want to log in", iterations=["validation"])
        job_id = UUID(accepted["job"]["id"])
        await eventually(lambda: is_in(client, job_id, "processing"), what="it is started")
        assert not has_ended(home, "postgres")

    for server in ("valkey", "postgres"):
        await eventually(partial(has_ended, home, server), what=f"{server} has ended")
    async with usa_up(home) as second, second.client() as client:
        assert second.facts["apiKey"] == first.facts["apiKey"]
        await eventually(lambda: is_in(client, job_id, "completed"), within=30, what="it ends")


async def is_in(client: ApiClient, job_id: UUID, status: str) -> bool:
    return bool((await client.get(job_id))["status"] == status)
