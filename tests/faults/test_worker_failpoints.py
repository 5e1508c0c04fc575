"""A worker that is killed or frozen at any commit, publish or acknowledgement of its own."""

import signal
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import redis.asyncio

from service.streams import keys
from tests.faults import matrix
from tests.faults.aftermath import nothing_went_wrong
from tests.faults.jobs import all_met, feed, submit, submit_stories
from tests.faults.test_shutdown import all_at_work
from tests.fixtures.failpoints import Failpoint
from tests.fixtures.processes import Cluster, ServiceProcess
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(400)

SHORT = {
    "USA_LEASE": "1.6",
    "USA_RENEW_EVERY": "0.4",
    "USA_CONCURRENCY": "2",
    "USA_USER_IN_STREAM": "0",
    # Every victim is one crash more for whoever it drags along.
    "USA_MAX_CRASHES": "100",
}


@pytest.fixture
async def hurt(cluster: Cluster) -> Cluster:
    """A cluster whose leases are short, with an API."""
    cluster.environment |= SHORT
    await cluster.start_api()
    return cluster


async def some_jobs(cluster: Cluster) -> list[UUID]:
    """Submit some sleepers and a real story."""
    sleepers = await submit(cluster, 5, steps=2, stepSeconds=0.4)
    return [*sleepers, *await submit_stories(cluster, 1)]


def start_victims(
    cluster: Cluster, failpoints: Sequence[Failpoint], **environment: str
) -> list[ServiceProcess]:
    return [cluster.start_victim("worker", each, **environment) for each in failpoints]


def freezing(victims: Sequence[ServiceProcess]) -> list[ServiceProcess]:
    return [each for each in victims if each.failpoints[0].action == "stop"]


async def recovered(cluster: Cluster, victims: Sequence[ServiceProcess]) -> None:
    """Let a healthy worker take everything over, and each frozen one go on right after that."""
    frozen = freezing(victims)
    await eventually(lambda: all(each.is_frozen for each in frozen), what="they are frozen")
    await cluster.start_workers(1, USA_CONCURRENCY="20")

    async def thaw(victim: ServiceProcess) -> None:
        name = victim.logged("worker_started")[0]["worker"]
        await eventually(
            lambda: has_lost_all(cluster, client, name), within=90, what="it is replaced"
        )
        victim.send(signal.SIGCONT)

    async with redis.asyncio.Redis.from_url(cluster.environment["USA_REDIS_URL"]) as client:
        # One after the other: they share the cluster's connection.
        for each in frozen:
            await thaw(each)
    killed = [each for each in victims if each.failpoints[0].action == "kill"]
    assert [await each.ended() for each in killed] == [-signal.SIGKILL] * len(killed)


async def has_lost_all(cluster: Cluster, client: "redis.asyncio.Redis", name: str) -> bool:
    """Whether a worker holds neither a job nor an entry any more."""
    held = await cluster.count(
        "SELECT count(*) FROM jobs WHERE status = 'processing' AND worker_id = $1", name
    )
    for stream in (keys.JOBS, keys.AGAIN):
        pending: Any = await client.xpending(stream, keys.GROUP)
        held += sum(each["name"].decode() == name for each in pending["consumers"] or ())
    return held == 0


@pytest.mark.parametrize("part", ["starting", "paying", "renewing", "ending"])
async def test_a_job_ends_once_wherever_its_worker_was_hurt(hurt: Cluster, part: str) -> None:
    victims = start_victims(hurt, getattr(matrix, part.upper()))

    jobs = await feed(hurt, victims, partial(some_jobs, hurt))
    await recovered(hurt, victims)

    await nothing_went_wrong(hurt, dict.fromkeys(jobs, "completed"))
    assert await hurt.count("SELECT count(*) FROM jobs WHERE error_count > 0") == 0


async def test_a_retry_is_counted_once_wherever_its_worker_was_hurt(hurt: Cluster) -> None:
    victims = start_victims(hurt, matrix.RETRYING)

    jobs = await feed(hurt, victims, partial(submit, hurt, 6, steps=2, stepSeconds=0.5, failures=1))
    await recovered(hurt, victims)

    await nothing_went_wrong(hurt, dict.fromkeys(jobs, "completed"))
    assert await hurt.count("SELECT count(*) FROM jobs WHERE error_count <> 1") == 0


async def test_whoever_takes_over_may_be_hurt_as_well(hurt: Cluster) -> None:
    (first,) = await hurt.start_workers(1, USA_CONCURRENCY="40")
    jobs = await submit(hurt, 2 * len(matrix.TAKING_OVER), steps=4, stepSeconds=0.4)
    await all_at_work(hurt, first, len(jobs))

    first.kill()
    victims = start_victims(hurt, matrix.TAKING_OVER)
    await all_met(victims)
    await recovered(hurt, victims)

    await nothing_went_wrong(hurt, dict.fromkeys(jobs, "completed"))
    assert await hurt.count("SELECT count(*) FROM jobs WHERE error_count > 0") == 0


async def test_a_job_ends_once_wherever_its_worker_was_hurt_on_its_way_out(hurt: Cluster) -> None:
    # Their relays would meet the failpoints for each other's jobs.
    victims = start_victims(
        hurt,
        matrix.HANDING_BACK,
        USA_CONCURRENCY="1",
        USA_SHUTDOWN_GRACE="1",
        USA_POLL_INTERVAL="60",
    )
    for victim in victims:
        await victim.ready()
    jobs = await submit(hurt, len(victims), steps=10, stepSeconds=0.5)
    for victim in victims:
        await all_at_work(hurt, victim, 1)

    for victim in victims:
        victim.send(signal.SIGTERM)
    await all_met(victims)
    await recovered(hurt, victims)

    assert [await each.ended() for each in freezing(victims)] == [0] * len(freezing(victims))
    await nothing_went_wrong(hurt, dict.fromkeys(jobs, "completed"))
    assert await hurt.count("SELECT count(*) FROM jobs WHERE error_count > 0") == 0
    assert await hurt.count("SELECT count(*) FROM jobs WHERE handback_count = 1") > 0
    assert await hurt.count("SELECT count(*) FROM jobs WHERE handback_count > 1") == 0
