"""A paused queue, as operators meet it: workers that run, die and come while nothing may start."""

import pytest

from service.bootstrap import create_api_key
from service.client.operator_client import OperatorClient
from service.domain.api_keys import Scope
from service.settings import Settings
from tests.faults.jobs import submit
from tests.fixtures.processes import OWNER, Cluster, ServiceProcess
from tests.fixtures.scraping import counted
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(180)

WAITING = 4


async def have_learned(*workers: ServiceProcess) -> None:
    """Return once each of these workers shows the pause."""
    for worker in workers:

        async def is_paused(worker: ServiceProcess = worker) -> bool:
            return await counted(worker, "usa_paused") == 1

        await eventually(is_paused, within=10.0, what="a worker learns of the pause")


async def test_nothing_starts_in_a_pause_whatever_becomes_of_the_workers(cluster: Cluster) -> None:
    settings = Settings(
        redis_url=cluster.environment["USA_REDIS_URL"],
        database_url=cluster.environment["USA_DATABASE_URL"],
    )
    admin, _ = await create_api_key(
        settings, OWNER, name="operator", scopes=[Scope.ADMIN], tier="free", valid_for=None
    )
    await cluster.start_api()
    dying, living = await cluster.start_workers(2, USA_CONCURRENCY="1")
    running = await submit(cluster, 2, steps=12, stepSeconds=1)
    at_work = "SELECT count(*) FROM jobs WHERE status = 'processing'"

    async def both_at_work() -> bool:
        return await cluster.count(at_work) == len(running)

    await eventually(both_at_work, within=20.0, what="both workers are at work")
    waiting = await submit(cluster, WAITING, steps=1, stepSeconds=0)
    async with OperatorClient(cluster.address, admin) as operator:
        await operator.pause("a test")
        await have_learned(dying, living)

        dying.kill()
        (newcomer,) = await cluster.start_workers(1, USA_CONCURRENCY="3")
        await have_learned(newcomer)

        async def one_is_done() -> bool:
            return (await cluster.statuses()).get("completed") == 1

        await eventually(one_is_done, within=40.0, what="what runs goes on to its end")
        counts = (await operator.queue())["jobs"]
        rows = await cluster.rows("SELECT attempt FROM jobs WHERE id = ANY ($1)", waiting)
        assert [row["attempt"] for row in rows] == [0] * WAITING
        assert (counts["queued"], counts["processing"]) == (WAITING, 1)

        await operator.resume()

    total = len(running) + WAITING
    assert await cluster.all_ended(total, within=40.0) == {"completed": total}
    budgets = await cluster.rows(
        "SELECT attempt, error_count, crash_count, handback_count FROM jobs WHERE id = ANY ($1)",
        waiting,
    )
    assert [tuple(row) for row in budgets] == [(1, 0, 0, 0)] * WAITING
    assert await cluster.calls_paid_twice() == []
