"""Measures jobs per second from POST to the finished row, with an agent that does nothing.

Real processes (one API, some workers) on real servers, on this machine, which also submits.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import asyncpg

from service.embedded import EmbeddedServers
from tests.fixtures.strangers import clean_environment, free_port
from tests.fixtures.waiting import eventually

_USA = [sys.executable, "-m", "service"]
_ENDED = "SELECT count(*) FROM jobs WHERE status IN ('completed', 'failed', 'cancelled')"
_OUTCOMES = """
    SELECT extract(epoch FROM max(completed_at) - min(created_at))::float8 AS seconds,
      percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
        ORDER BY extract(epoch FROM completed_at - created_at)
      ) AS latencies
    FROM jobs WHERE status = 'completed'
"""


@dataclass(frozen=True)
class Service:
    """A running service, as its submitters and its observer see it."""

    url: str
    key: str
    database_url: str


@contextmanager
def running_service(workers: int, concurrency: int) -> Iterator[Service]:
    """Start servers, an API and workers, and stop them all."""
    with ExitStack() as cleanups:
        home = Path(cleanups.enter_context(TemporaryDirectory(prefix="usa-bench-")))
        servers = EmbeddedServers(home)
        urls = servers.start()
        cleanups.callback(servers.stop)
        environment = clean_environment() | {
            "REDIS_URL": urls.redis_url,
            "DATABASE_URL": urls.database_url,
            "PORT": str(port := free_port()),
            "USA_METRICS_PORT": "0",
            "USA_MODEL": "offline",
            "USA_TEST_AGENTS": "1",
            "USA_LOG_LEVEL": "WARNING",
            "USA_CONCURRENCY": str(concurrency),
            # One user submits everything; taking turns is not what is measured.
            "USA_USER_IN_STREAM": "0",
        }
        usa(environment, "migrate")
        owner = ["--tenant", "bench", "--user", "bench", "--tier", "unlimited"]
        made = json.loads(usa(environment, "keys", "create", *owner, "--json"))
        for command in ["api", *["worker"] * workers]:
            process = subprocess.Popen([*_USA, command], env=environment)
            cleanups.callback(process.wait, 90)
            cleanups.callback(process.terminate)
        yield Service(f"http://127.0.0.1:{port}", made["key"], urls.database_url)


def usa(environment: dict[str, str], *arguments: str) -> str:
    """Run a command to its end and return what it prints."""
    command = [*_USA, *arguments]
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


async def submit_all(service: Service, jobs: int, connections: int) -> float:
    """Submit jobs over some connections at once, and return how many seconds that took."""
    left = iter(range(jobs))
    headers = {"Authorization": f"Bearer {service.key}"}
    async with aiohttp.ClientSession(service.url, headers=headers) as session:

        async def submit() -> None:
            for number in left:
                body = {"story": f"Story {number}", "agent": "noop"}
                async with session.post("/api/v1/jobs", json=body) as reply:
                    if reply.status != 202:
                        raise RuntimeError(f"{reply.status}: {await reply.text()}")

        await eventually(lambda: _answers(session), within=60, what="the API is ready")
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(submit())
        return time.perf_counter() - started


async def _answers(session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get("/readyz") as reply:
            return reply.status == 200
    except aiohttp.ClientError:
        return False


async def measure(service: Service, jobs: int, connections: int) -> dict[str, Any]:
    """Push jobs through a running service and say how fast that went."""
    accepting = await submit_all(service, jobs, connections)
    database = await asyncpg.connect(service.database_url)

    async def are_ended() -> bool:
        return bool(await database.fetchval(_ENDED) == jobs)

    try:
        await eventually(are_ended, within=300, what="all jobs ended")
        outcome = await database.fetchrow(_OUTCOMES)
        failed = await database.fetchval("SELECT count(*) FROM jobs WHERE status <> 'completed'")
    finally:
        await database.close()
    assert outcome is not None
    median, slowest = outcome["latencies"]
    return {
        "jobs": jobs,
        "not_completed": failed,
        "accepted_per_second": round(jobs / accepting, 1),
        "jobs_per_second": round((jobs - failed) / outcome["seconds"], 1),
        "latency_seconds": {"p50": round(median, 3), "p99": round(slowest, 3)},
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Measure once, and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=50, help="jobs at once per worker")
    parser.add_argument("--connections", type=int, default=32, help="submitting at once")
    asked = parser.parse_args()
    with running_service(asked.workers, asked.concurrency) as service:
        measured = asyncio.run(measure(service, asked.jobs, asked.connections))
    setup = {"workers": asked.workers, "concurrency": asked.concurrency}
    sys.stdout.write(json.dumps(measured | setup, indent=2) + "\n")


if __name__ == "__main__":
    main()
