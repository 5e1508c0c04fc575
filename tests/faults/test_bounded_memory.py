"""However many jobs went through it, Redis keeps nothing of them, and nobody's place in line."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from functools import partial
from time import monotonic
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import redis.asyncio

from service.streams import keys
from tests.fixtures.figures import show
from tests.fixtures.invariants import faults_at_rest, faults_of_books
from tests.fixtures.processes import Cluster, ServiceProcess
from tests.fixtures.scale import IS_FULL, scaled
from tests.fixtures.waiting import eventually

JOBS = scaled(2_000, 20_000)
# Until it holds what it never gives back: scripts, statistics, the tables of its keys.
WARMING_UP = 500
SENDERS = 32
KILLS = scaled(1, 4)
GROWTH = 0.05
# Who is silent for a minute is dead. Only a full run has the time to see that.
FORGOTTEN_WITHIN = scaled(10.0, 150.0)


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator["redis.asyncio.Redis"]:
    """A look into the cluster's Redis."""
    async with redis.asyncio.Redis.from_url(cluster.environment["USA_REDIS_URL"]) as client:
        yield client


@pytest.mark.timeout(900)
async def test_redis_is_as_empty_after_many_jobs_as_before(
    cluster: Cluster, client: "redis.asyncio.Redis"
) -> None:
    cluster.environment |= {
        "USA_EVENT_RETENTION": "2",
        "USA_CONCURRENCY": "50",
        "USA_USER_IN_STREAM": "0",
        "USA_PRUNE_INTERVAL": "5",
    }
    await cluster.start_api()
    living = await cluster.start_workers(2)
    dead: list[ServiceProcess] = []
    await send(cluster, WARMING_UP)
    before = await memory_at_rest(cluster, client)
    started = monotonic()

    for _ in range(KILLS):
        await asyncio.gather(send(cluster, JOBS // KILLS), replace_one(cluster, living, dead))

    sent = monotonic() - started
    await cluster.all_ended(WARMING_UP + JOBS, within=300)
    await expect_consumers(client, names_of(living), names_of(dead))
    after = await memory_at_rest(cluster, client)
    assert await cluster.statuses() == {"completed": WARMING_UP + JOBS}
    assert await faults_of_books(cluster) == []
    show(
        f"{JOBS} jobs sent in {sent:.0f} s, {JOBS / sent:.0f} a second;"
        f" Redis holds {before} B before and {after} B after them: {after / before - 1:+.2%}"
    )
    assert after < (1 + GROWTH) * before


async def send(cluster: Cluster, count: int) -> None:
    """Submit jobs that do nothing, some at a time, each until it is accepted."""
    left = iter(range(count))
    headers = {"Authorization": f"Bearer {cluster.key}"}
    async with aiohttp.ClientSession(cluster.address, headers=headers) as session:

        async def is_accepted(key: str) -> bool:
            body, once = {"story": "x", "agent": "noop"}, {"Idempotency-Key": key}
            async with session.post("/api/v1/jobs", json=body, headers=once) as response:
                assert response.status in {202, 503}, await response.text()
                return response.status == 202

        async def send_some() -> None:
            for _ in left:
                await eventually(partial(is_accepted, str(uuid4())), within=60)

        await asyncio.gather(*(send_some() for _ in range(SENDERS)))


async def replace_one(
    cluster: Cluster, living: list[ServiceProcess], dead: list[ServiceProcess]
) -> None:
    """Kill a worker that has entries, the hard way, and start another."""
    victim = living.pop(0)
    (name,) = names_of([victim])
    at_work = "SELECT count(*) FROM jobs WHERE status = 'processing' AND worker_id = $1"
    await eventually(lambda: cluster.count(at_work, name), within=30, what="it is at work")
    victim.kill()
    dead.append(victim)
    living += await cluster.start_workers(1)


def names_of(workers: Iterable[ServiceProcess]) -> set[str]:
    return {str(worker.logged("worker_started")[0]["worker"]) for worker in workers}


async def memory_at_rest(cluster: Cluster, client: "redis.asyncio.Redis") -> int:
    """What Redis holds, without its buffers for clients, once no job has left a trace in it."""

    async def is_at_rest() -> bool:
        if await faults_at_rest(cluster, client):
            return False
        return not [key async for key in client.scan_iter("usa:events:*", count=1000)]

    await eventually(is_at_rest, within=300, what="every job has ended and every event expired")
    async with client.pipeline() as at_once:
        # Its statistics are bounded, and larger than all else: a histogram for every command.
        at_once.config_resetstat()
        at_once.slowlog_reset()
        at_once.memory_purge()
        at_once.memory_stats()
        *_, stats = await at_once.execute()
    return int(stats["total.allocated"] - stats["clients.normal"])


async def expect_consumers(client: "redis.asyncio.Redis", living: set[str], dead: set[str]) -> None:
    """All who live are consumers, and of the dead only those who died a moment ago."""

    async def are_expected() -> bool:
        found = await consumers(client)
        return found == living if IS_FULL else living <= found <= living | dead

    await eventually(are_expected, within=FORGOTTEN_WITHIN, what="the consumers are the living")


async def consumers(client: "redis.asyncio.Redis") -> set[str]:
    found: set[str] = set()
    for stream in (keys.JOBS, keys.AGAIN):
        described: Any = await client.xinfo_consumers(stream, keys.GROUP)
        found |= {each["name"].decode() for each in described}
    return found
