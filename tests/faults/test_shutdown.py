"""SIGTERM: a deploy costs no job its retries and no finished call its money."""

import signal
from uuid import UUID

from service.client.documents import JobDocument
from tests.fixtures.processes import QUICK, Cluster, ServiceProcess
from tests.fixtures.waiting import eventually

GRACE = 2.0
JOBS = 3


async def submit_sleepers(cluster: Cluster, count: int, **options: float) -> list[UUID]:
    """Submit jobs of calls that only take time."""
    async with cluster.client() as client:
        answers = [
            await client.submit("x", agent="sleep", options=dict(options)) for _ in range(count)
        ]
    return [UUID(answer["job"]["id"]) for answer in answers]


async def all_at_work(cluster: Cluster, worker: ServiceProcess, count: int) -> None:
    """Return when a worker runs so many jobs, each with a finished call."""
    name = worker.logged("worker_started")[0]["worker"]

    async def are() -> bool:
        return count == await cluster.count(
            "SELECT count(*) FROM jobs j WHERE status = 'processing' AND worker_id = $1"
            " AND EXISTS (SELECT FROM checkpoints c WHERE c.job_id = j.id)",
            name,
        )

    await eventually(are, within=20.0, what=f"{count} jobs are at work")


async def job(cluster: Cluster, job_id: UUID) -> JobDocument:
    async with cluster.client() as client:
        return await client.get(job_id)


async def test_running_jobs_are_handed_back_free_of_charge_and_taken_up_at_once(
    cluster: Cluster,
) -> None:
    await cluster.start_api()
    (leaving,) = await cluster.start_workers(1)
    await submit_sleepers(cluster, JOBS, steps=12, stepSeconds=1.2)
    await all_at_work(cluster, leaving, JOBS)
    await cluster.start_workers(1)

    leaving.send(signal.SIGTERM)

    assert await leaving.ended(within=GRACE + 8.0) == 0
    assert await cluster.all_ended(JOBS, within=60.0) == {"completed": JOBS}
    budgets = await cluster.rows(
        "SELECT error_count, crash_count, handback_count, attempt FROM jobs"
    )
    assert [tuple(row) for row in budgets] == [(0, 0, 1, 2)] * JOBS
    assert await cluster.calls_paid_twice() == []
    pauses = await cluster.rows(
        "SELECT extract(epoch FROM min(u.opened_at) - j.available_at)::float8 AS pause"
        " FROM jobs j JOIN usage_records u ON u.job_id = j.id AND u.attempt = 2"
        " GROUP BY j.id, j.available_at"
    )
    assert len(pauses) == JOBS
    # Through their own new entries: nobody had to wait for a lease to run out.
    assert all(0 < row["pause"] < float(QUICK["USA_LEASE"]) for row in pauses)


async def test_jobs_that_end_within_the_grace_are_not_handed_back(cluster: Cluster) -> None:
    await cluster.start_api()
    (leaving,) = await cluster.start_workers(1, USA_SHUTDOWN_GRACE="10")
    await submit_sleepers(cluster, JOBS, steps=3, stepSeconds=0.4)
    await all_at_work(cluster, leaving, JOBS)

    leaving.send(signal.SIGTERM)

    assert await leaving.ended(within=15.0) == 0
    assert await cluster.statuses() == {"completed": JOBS}
    assert await cluster.count("SELECT count(*) FROM jobs WHERE attempt <> 1") == 0


async def test_an_idle_worker_leaves_at_once_and_nothing_behind(cluster: Cluster) -> None:
    await cluster.start_api()
    (leaving,) = await cluster.start_workers(1)

    leaving.send(signal.SIGTERM)

    assert await leaving.ended(within=5.0) == 0
    assert [record for record in leaving.log if record.get("level") == "error"] == []


async def test_an_api_that_stops_ends_its_streams_and_another_one_goes_on(
    cluster: Cluster,
) -> None:
    first = await cluster.start_api()
    await cluster.start_workers(1)
    (job_id,) = await submit_sleepers(cluster, 1, steps=8, stepSeconds=0.3)
    old_address = cluster.address
    await cluster.start_api()

    async with cluster.client() as client:
        seen = []
        async for event in client.follow(job_id):
            seen.append(event.id)
            if len(seen) == 4:
                break
    cluster.address, new_address = old_address, cluster.address
    async with cluster.client() as client:
        stream = client.follow(job_id, after=seen[-1])
        event = await anext(stream)
        first.send(signal.SIGTERM)
        assert await first.ended(within=8.0) == 0
        await stream.aclose()
    cluster.address = new_address
    async with cluster.client() as client:
        rest = [each async for each in client.follow(job_id, after=event.id or seen[-1])]

    assert rest[-1].type == "complete"
