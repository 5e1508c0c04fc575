"""Calls that fail, are slow, go unheard or are cut off: one process meets them all, and goes on."""

import asyncio
import signal
from uuid import UUID

import pytest

from tests.faults import matrix
from tests.faults.aftermath import nothing_went_wrong
from tests.faults.jobs import all_met, feed, submit, submit_stories
from tests.faults.test_shutdown import all_at_work
from tests.fixtures.processes import Cluster

pytestmark = pytest.mark.timeout(400)


async def test_a_worker_survives_whatever_its_servers_fail_to_do(cluster: Cluster) -> None:
    cluster.environment["USA_MAX_CRASHES"] = "100"
    await cluster.start_api()
    worker = cluster.start_victim("worker", *matrix.WORKING, USA_USER_IN_STREAM="2")
    await worker.ready()
    (cancelled,) = await submit(cluster, 1, steps=12, stepSeconds=1)
    await all_at_work(cluster, worker, 1)

    async def some_jobs() -> list[UUID]:
        return [
            *await submit(cluster, 3, steps=3, stepSeconds=0.1),
            *await submit(cluster, 2, steps=2, failures=1),
            *await submit_stories(cluster, 1),
        ]

    async with cluster.client() as client:
        await client.cancel(cancelled)
    jobs = await feed(cluster, [worker], some_jobs, within=90)

    expected = dict.fromkeys(jobs, "completed") | {cancelled: "cancelled"}
    await nothing_went_wrong(cluster, expected)
    assert worker.popen.poll() is None


async def test_a_worker_leaves_through_whatever_fails(cluster: Cluster) -> None:
    cluster.environment |= {"USA_CONCURRENCY": "12", "USA_USER_IN_STREAM": "0"}
    await cluster.start_api()
    worker = cluster.start_victim("worker", *matrix.LEAVING)
    await worker.ready()
    jobs = await submit(cluster, 12, steps=6, stepSeconds=2)
    await all_at_work(cluster, worker, len(jobs))

    worker.send(signal.SIGTERM)

    assert await worker.ended(within=60) == 0
    await all_met([worker])
    await cluster.start_workers(1)
    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    assert await cluster.count("SELECT count(*) FROM jobs WHERE error_count > 0") == 0


async def test_an_api_survives_whatever_its_servers_fail_to_do(cluster: Cluster) -> None:
    api = cluster.start_victim("api", *matrix.SERVING)
    cluster.address = (await api.ready())["address"]
    await cluster.start_workers(1)
    cancelled: list[UUID] = []

    async def some_jobs() -> list[UUID]:
        doomed = await submit(cluster, 2, steps=1, stepSeconds=60)
        async with cluster.client() as client:
            await asyncio.gather(*map(client.cancel, doomed))
        cancelled.extend(doomed)
        return await submit(cluster, 2, steps=1)

    jobs = await feed(cluster, [api], some_jobs, within=90)

    expected = dict.fromkeys(jobs, "completed") | dict.fromkeys(cancelled, "cancelled")
    await nothing_went_wrong(cluster, expected)
    assert api.popen.poll() is None
