"""kill -9 of a worker in the middle of many jobs."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from service.agent.model_stub import ModelStub
from service.domain.events import EventId
from tests.fixtures.processes import Cluster
from tests.fixtures.readme import event_members
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


@pytest.fixture
async def slow_stub() -> AsyncIterator[ModelStub]:
    """A stand-in for Claude that writes slowly enough to be interrupted."""
    stub = ModelStub(pause=0.03)
    await stub.start()
    yield stub
    await stub.stop()


async def test_all_jobs_complete_and_no_finished_call_is_paid_again(cluster: Cluster) -> None:
    await fifty_stories_survive(cluster, {"USA_OFFLINE_PACE": "0.15", "USA_CONCURRENCY": "8"})


async def test_the_same_holds_for_calls_to_claude(cluster: Cluster, slow_stub: ModelStub) -> None:
    await fifty_stories_survive(
        cluster,
        {
            "USA_MODEL": "anthropic",
            "ANTHROPIC_API_KEY": "sk-ant-of-the-test",
            "ANTHROPIC_BASE_URL": slow_stub.address,
            "USA_CONCURRENCY": "8",
        },
    )

    rejected = [call.status for call in slow_stub.calls if call.status not in {200, None}]
    unanswered = [call for call in slow_stub.calls if call.status is None]
    finished = sum(call.completed for call in slow_stub.calls)
    written_down = await cluster.count("SELECT count(*) FROM checkpoints")
    assert rejected == []
    # Only the victim's slots may have been cut off before an answer began.
    assert len(unanswered) <= 8
    # Only what the victim was reading when it died was paid and could not be written down.
    assert written_down <= finished <= written_down + 8
    (billed,) = await cluster.rows(
        "SELECT sum(input_tokens + cache_read_tokens + cache_write_tokens) AS read,"
        " sum(output_tokens) AS written FROM usage_records WHERE ending = 'finished'"
    )
    completed = [call.billed for call in slow_stub.calls if call.completed]
    assert billed["read"] <= sum(u.input + u.cache_read + u.cache_write for u in completed)
    assert billed["written"] <= sum(usage.output for usage in completed)


async def fifty_stories_survive(cluster: Cluster, worker: dict[str, str]) -> None:
    """Kill one of two workers half way through fifty jobs, with somebody watching."""
    await cluster.start_api(USA_MODEL=worker.get("USA_MODEL", "offline"))
    victim, _ = await cluster.start_workers(2, **worker)
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
    members = event_members()
    assert [event.type for event in events if event.data.keys() != members[event.type]] == []
    assert [event.type for event in events].count("iteration:complete") == len(ITERATIONS)
    first = next(event.id for event in events if event.id is not None)
    assert first == EventId(1, 1)
