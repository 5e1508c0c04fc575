"""kill -9 of a worker in the middle of many jobs."""

import asyncio
from uuid import UUID

from service.domain.events import EventId
from tests.fixtures.processes import Cluster
from tests.fixtures.waiting import eventually
from tests.fixtures.watching import CurlWatch

STORIES = 50
ITERATIONS = ["user-roles", "validation", "security"]


async def submit(cluster: Cluster, count: int) -> list[UUID]:
    """Submit stories all at once."""
    async with cluster.client() as client:
        answers = await asyncio.gather(
            *(
                client.submit(f"As a user, I want thing {number}", iterations=ITERATIONS)
                for number in range(count)
            )
        )
    return [UUID(answer["job"]["id"]) for answer in answers]


async def test_all_jobs_complete_and_no_finished_call_is_paid_again(cluster: Cluster) -> None:
    await cluster.start_api()
    slow = {"USA_OFFLINE_PACE": "0.15", "USA_CONCURRENCY": "8"}
    victim, _ = await cluster.start_workers(2, **slow)
    jobs = await submit(cluster, STORIES)
    watch = CurlWatch.start(cluster, jobs[-1])

    await half_way(cluster, victim_id=victim.logged("worker_started")[0]["worker"])
    victim.kill()

    assert await cluster.all_ended(STORIES, within=60.0) == {"completed": STORIES}
    assert await cluster.calls_paid_twice() == []
    assert await cluster.count("SELECT count(*) FROM jobs WHERE attempt > 1") > 0
    assert await cluster.count("SELECT count(*) FROM jobs WHERE error_count > 0") == 0
    assert await cluster.count("SELECT count(*) FROM checkpoints") >= STORIES * len(ITERATIONS)
    events = await watch.ended()
    told = [event.id for event in events if event.id is not None]
    assert told == sorted(set(told))
    assert [event.type for event in events].count("complete") == 1
    assert events[-1].type == "complete"


async def half_way(cluster: Cluster, victim_id: str) -> None:
    """Return when about half of the calls are paid and the victim is at work on some more."""

    async def is_there() -> bool:
        paid = await cluster.count("SELECT count(*) FROM checkpoints")
        at_work = await cluster.count(
            "SELECT count(*) FROM jobs j WHERE status = 'processing' AND worker_id = $1"
            " AND EXISTS (SELECT FROM checkpoints c WHERE c.job_id = j.id)",
            victim_id,
        )
        return paid >= STORIES * len(ITERATIONS) // 2 and at_work > 0

    await eventually(is_there, within=40.0, what="half of the calls are paid")


async def test_every_watcher_is_told_the_whole_story(cluster: Cluster) -> None:
    await cluster.start_api()
    await cluster.start_workers(1)
    (job,) = await submit(cluster, 1)
    watch = CurlWatch.start(cluster, job)

    events = await watch.ended()

    assert events[0].type == "connected"
    assert [event.type for event in events].count("iteration:complete") == len(ITERATIONS)
    first = next(event.id for event in events if event.id is not None)
    assert first == EventId(1, 1)
