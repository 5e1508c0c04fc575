"""Leases of a real worker: kept through losses, given up by a process that stands still."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import asyncpg

from service.domain.job import JobStatus
from service.telemetry.metrics import REGISTRY
from tests.fixtures.models import HeldModel
from tests.fixtures.waiting import eventually
from tests.integration.worker.workplace import Workplace, calling


def renewals(server: str) -> float:
    labels = {"server": server, "result": "renewed"}
    return REGISTRY.get_sample_value("usa_lease_renewals_total", labels) or 0.0


async def expiry(database_url: str) -> float:
    """When the only lease has ended, looked at from a loop of its own."""
    connection = await asyncpg.connect(database_url)
    ended = "SELECT lease_until < clock_timestamp() FROM jobs"
    try:
        await eventually(lambda: connection.fetchval(ended), within=20.0, what="the lease ends")
    finally:
        await connection.close()
    return monotonic()


async def test_a_worker_whose_event_loop_stands_still_for_five_seconds_gives_its_jobs_up(
    workplace: Workplace, migrated_url: str
) -> None:
    model = HeldModel()
    job_id = await workplace.submit()

    async with workplace.worker(calling(model), lease=1.5, renew_every=0.4):
        await eventually(model.at_work.is_set)
        stopped_at = monotonic()
        with ThreadPoolExecutor() as elsewhere:
            # Waited for without a single turn of the loop that runs the job.
            ended_at = elsewhere.submit(asyncio.run, expiry(migrated_url)).result()
        model.released.set()
        # Nobody has taken it meanwhile, so it goes on.
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]

    assert ended_at - stopped_at > 5.0
    assert (await workplace.job(job_id)).attempt == 1


async def test_leases_are_renewed_although_redis_has_lost_everything(workplace: Workplace) -> None:
    model = HeldModel()
    job_id = await workplace.submit()

    # Without a free slot it does not read, and nobody makes the group anew.
    async with workplace.worker(calling(model), concurrency=1):
        await eventually(model.at_work.is_set)
        await workplace.streams.commands.flushall()
        before = renewals("postgres"), renewals("redis")
        await eventually(
            lambda: renewals("postgres") >= before[0] + 2 and renewals("redis") >= before[1] + 2
        )
        model.released.set()
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]

    assert (await workplace.job(job_id)).attempt == 1
