"""deploy/README.md's backup brings jobs back after Postgres was lost, with Redis emptied."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from service.bootstrap import migrate
from service.embedded.binaries import find_postgres
from service.settings import Settings
from tests.faults.test_shutdown import submit_sleepers
from tests.fixtures.processes import ROOT, Cluster
from tests.fixtures.proxy import proxy_to, redis_proxy_to
from tests.fixtures.readme import commands_under
from tests.fixtures.servers import as_role, create_database, drop_database, make_roles
from tests.fixtures.strangers import clean_environment
from tests.fixtures.tools import needed_program
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(180)

_PAGE = (ROOT / "deploy" / "README.md").read_text()
_BACKUP, _RESTORE = commands_under("Backup and restore", _PAGE)


async def test_jobs_of_every_status_outlive_the_loss_of_both_servers(
    cluster: Cluster, admin_database_url: str, tmp_path: Path
) -> None:
    needed_program("redis-cli")
    url = cluster.environment["USA_DATABASE_URL"]
    await make_roles(admin_database_url)
    await migrate(Settings(database_url=url))
    async with AsyncExitStack() as stack:
        _, postgres = await stack.enter_async_context(proxy_to(url))
        _, valkey = await stack.enter_async_context(
            redis_proxy_to(cluster.environment["USA_REDIS_URL"])
        )
        operator = surroundings(
            tmp_path, DATABASE_URL=postgres, REDIS_URL=valkey, REDIS_OPERATOR_URL=valkey
        )

        await start_with_roles(cluster)
        async with cluster.client() as client:
            accepted = await client.submit("As a user, I want to log in", iterations=["validation"])
            written = UUID(accepted["job"]["id"])
            before = await client.wait(written, within=60)
        await submit_sleepers(cluster, 2, steps=3, stepSeconds=0.5)

        async def is_busy() -> bool:
            statuses = await cluster.statuses()
            steps = await cluster.count(
                "SELECT count(*) FROM checkpoints WHERE job_id <> $1", written
            )
            return statuses == {"completed": 1, "processing": 1, "queued": 1} and steps > 0

        await eventually(is_busy, within=30, what="one job has ended, one runs, one waits")
        await asyncio.to_thread(follow, _BACKUP, tmp_path, operator)

        for process in cluster.processes:
            process.kill()
        await drop_database(admin_database_url, name := urlsplit(url).path.lstrip("/"))
        await create_database(admin_database_url, name)
        await asyncio.to_thread(follow, _RESTORE, tmp_path, operator)

        await cluster.reconnect()
        await start_with_roles(cluster)
        assert await cluster.all_ended(3, within=60) == {"completed": 3}
        assert await cluster.calls_paid_twice() == []
        async with cluster.client() as client:
            assert await client.get(written) == before


async def start_with_roles(cluster: Cluster) -> None:
    """Start an API and a worker for one job at a time, with the grants that their roles have."""
    url = cluster.environment["USA_DATABASE_URL"]
    roles = {
        "USA_DATABASE_URL": as_role(url, "usa_worker"),
        "USA_API_DATABASE_URL": as_role(url, "usa_api"),
    }
    await cluster.start_api(**roles)
    await cluster.start_workers(1, USA_CONCURRENCY="1", **roles)


def surroundings(folder: Path, **addresses: str) -> dict[str, str]:
    """Return what an operator's shell has: our command, Postgres' programs, the addresses."""
    programs = folder / "bin"
    programs.mkdir()
    usa = programs / "usa"
    usa.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m service "$@"\n')
    usa.chmod(0o755)
    environment = clean_environment()
    path = f"{programs}:{find_postgres(None).postgres.parent}:{environment['PATH']}"
    return {**environment, "PATH": path, "USA_MODEL": "offline", **addresses}


def follow(commands: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Type commands of the page into a shell that stops at the first one that fails."""
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
