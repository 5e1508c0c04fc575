"""Jobs that failed for good half way are redriven: nothing finished is paid again."""

import asyncio
import signal
from uuid import UUID

import aiohttp
import pytest

from service.client.event_stream import StreamEvent
from service.domain.events import EventId
from tests.faults.aftermath import nothing_went_wrong
from tests.faults.jobs import submit
from tests.fixtures.failpoints import Failpoint
from tests.fixtures.processes import Cluster, ServiceProcess
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(240)

STEPS = 4
# One error is too many for the first worker, and none of the second one's business.
STRICT, PATIENT = {"USA_MAX_ERRORS": "1"}, {"USA_MAX_ERRORS": "2"}
PATIENCE = aiohttp.ClientTimeout(total=2)
# Their own maintenance would do what they should.
ONLY_REQUESTS = {"USA_POLL_INTERVAL": "3600", "USA_RECONCILE_INTERVAL": "3600"}
HURT = [
    *(
        Failpoint(f"postgres.redrive_failed_jobs.{p}", "kill")
        for p in ("before", "during", "after")
    ),
    *(Failpoint(f"redis.redrive_events.{p}", "kill") for p in ("before", "during", "after")),
    *(Failpoint(f"redis.xadd.{p}", "kill") for p in ("before", "after")),
    Failpoint("postgres.mark_entries.before", "kill"),
    Failpoint("postgres.redrive_failed_jobs.after", "stop"),
    Failpoint("redis.redrive_events.before", "stop"),
]


async def fail_half_way(cluster: Cluster, count: int) -> list[UUID]:
    """Jobs whose last call failed, after a worker that has left again."""
    jobs = await submit(cluster, count, steps=STEPS, failures=1)
    [worker] = await cluster.start_workers(1, USA_CONCURRENCY="8", **STRICT)
    assert await cluster.all_ended(count, within=60) == {"failed": count}
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert await cluster.count("SELECT count(*) FROM checkpoints") == count * (STEPS - 1)
    assert await cluster.count("SELECT count(*) FROM jobs WHERE error_count = 1") == count
    return jobs


async def cursors(cluster: Cluster) -> dict[UUID, str]:
    """The last event of each job, as whoever saw it fail knows it."""
    rows = await cluster.rows("SELECT id, final_event_id FROM jobs")
    return {row["id"]: row["final_event_id"] for row in rows}


async def told_after(cluster: Cluster, cursors: dict[UUID, str]) -> dict[UUID, list[StreamEvent]]:
    """What clients get that have seen their jobs fail."""

    async def follow(job_id: UUID, cursor: str) -> list[StreamEvent]:
        return [event async for event in client.follow(job_id, after=cursor)]

    async with cluster.client() as client:
        told = await asyncio.gather(*(follow(*each) for each in cursors.items()))
    return dict(zip(cursors, told, strict=True))


def assert_told_once(events: list[StreamEvent], cursor: str) -> None:
    """One new generation, in order, to its one end."""
    ids = [EventId.parse(event.id) for event in events if event.id is not None]
    assert ids == sorted(set(ids), key=lambda each: each or EventId(0, 0))
    seen = EventId.parse(cursor)
    assert all(each is not None and seen is not None and each > seen for each in ids)
    assert [event.type for event in events if event.is_terminal] == ["complete"]
    assert events[-1].type == "complete"


async def test_a_redriven_job_goes_on_where_it_failed_with_budgets_that_start_at_zero(
    cluster: Cluster,
) -> None:
    await cluster.start_api()
    jobs = await fail_half_way(cluster, 6)
    seen = await cursors(cluster)

    async with cluster.client() as client:
        answers = [await client.redrive(job_id) for job_id in jobs]
    assert {answer["job"]["status"] for answer in answers} == {"queued"}
    assert await cluster.count("SELECT sum(error_count)::int FROM jobs") == 0
    watching = asyncio.create_task(told_after(cluster, seen))
    await cluster.start_workers(1, USA_CONCURRENCY="8", **PATIENT)
    assert await cluster.all_ended(len(jobs), within=60) == {"completed": len(jobs)}

    # The first error of the new generation was its first: the old one would have been too many.
    assert await cluster.count("SELECT count(*) FROM jobs WHERE error_count = 1") == len(jobs)
    assert await cluster.calls_paid_twice() == []
    finished = "SELECT count(*) FROM usage_records WHERE ending = 'finished'"
    assert await cluster.count(finished) == len(jobs) * STEPS
    for job_id, events in (await watching).items():
        assert_told_once(events, seen[job_id])
    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))


async def test_a_redrive_takes_effect_once_wherever_its_api_was_hurt(cluster: Cluster) -> None:
    # Every redriven job gets its entry at once, none is left to the relay.
    cluster.environment |= {"USA_USER_IN_STREAM": "0"}
    victims = [cluster.start_victim("api", each, **ONLY_REQUESTS) for each in HURT]
    addresses = [(await victim.ready())["address"] for victim in victims]
    await cluster.start_api(USA_POLL_INTERVAL="3600", USA_RECONCILE_INTERVAL="3600")
    jobs = await fail_half_way(cluster, len(HURT))
    seen = await cursors(cluster)

    async def redrive(address: str, job_id: UUID) -> int | None:
        url = f"{address}/api/v1/jobs/{job_id}/redrive"
        try:
            async with session.post(url, timeout=PATIENCE) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def redrive_twice(address: str, job_id: UUID) -> None:
        assert await redrive(address, job_id) in {None, 202}
        # Whether the first one took effect nobody knows who got no answer.
        assert await redrive(cluster.address, job_id) in {202, 409}

    authorization = {"Authorization": f"Bearer {cluster.key}"}
    async with aiohttp.ClientSession(headers=authorization) as session:
        await asyncio.gather(*map(redrive_twice, addresses, jobs))
    await eventually(lambda: all(not each.unmet for each in victims), what="all were hurt")
    attempts = await cluster.rows("SELECT DISTINCT status, attempt FROM jobs")
    assert [tuple(row) for row in attempts] == [("queued", 2)]
    watching = asyncio.create_task(told_after(cluster, seen))
    await cluster.start_workers(1, USA_CONCURRENCY="8", **PATIENT)
    assert await cluster.all_ended(len(jobs), within=60) == {"completed": len(jobs)}
    await release(victims)

    for job_id, events in (await watching).items():
        assert_told_once(events, seen[job_id])
    assert await cluster.calls_paid_twice() == []
    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))


async def release(victims: list[ServiceProcess]) -> None:
    """Let the frozen ones go on with what is out of date; the others are dead."""
    for victim in victims:
        if victim.failpoints[0].action == "stop":
            assert victim.is_frozen
            victim.send(signal.SIGCONT)
        else:
            assert await victim.ended() == -signal.SIGKILL
