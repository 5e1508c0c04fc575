"""Networks that pass only one way, crawl, or break in the middle of an answer."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic
from uuid import UUID, uuid4

import pytest

from service.client.api_client import ApiClient
from service.client.errors import ClientFailure
from tests.faults.aftermath import nothing_went_wrong
from tests.faults.jobs import STORY, submit
from tests.faults.test_shutdown import all_at_work
from tests.fixtures.processes import QUICK, Cluster, ServiceProcess
from tests.fixtures.proxy import Proxy, Way, proxy_to, redis_proxy_to
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(400)

BEYOND_A_LEASE = float(QUICK["USA_LEASE"]) + 2.0
HALF_OPEN = [(server, way) for server in ("postgres", "redis") for way in Way]


@dataclass
class Wires:
    """Proxies in front of both servers, one pair for every process that asks."""

    cluster: Cluster
    stack: AsyncExitStack

    async def lay(self) -> tuple[dict[str, Proxy], dict[str, str]]:
        """Return proxies by server, and the environment of who is behind them."""
        environment = self.cluster.environment
        postgres, database_url = await self.stack.enter_async_context(
            proxy_to(environment["USA_DATABASE_URL"])
        )
        valkey, redis_url = await self.stack.enter_async_context(
            redis_proxy_to(environment["USA_REDIS_URL"])
        )
        addresses = {"USA_DATABASE_URL": database_url, "USA_REDIS_URL": redis_url}
        return {"postgres": postgres, "redis": valkey}, addresses

    async def start(
        self, command: str, **environment: str
    ) -> tuple[ServiceProcess, dict[str, Proxy]]:
        """Start a process behind proxies of its own."""
        proxies, addresses = await self.lay()
        process = self.cluster.start(command, **addresses, **environment)
        await process.ready()
        return process, proxies


@pytest.fixture
async def wires(cluster: Cluster) -> AsyncIterator[Wires]:
    """A cluster with an API that nobody hurts."""
    await cluster.start_api()
    async with AsyncExitStack() as stack:
        yield Wires(cluster, stack)
        for process in cluster.processes:
            process.kill()


async def passed(seconds: float) -> None:
    """Return when a fault has lasted so long."""
    until = monotonic() + seconds
    await eventually(lambda: monotonic() > until, within=seconds + 10)


async def test_a_half_open_connection_of_a_worker_loses_nothing(
    cluster: Cluster, wires: Wires
) -> None:
    workers = [await wires.start("worker", USA_CONCURRENCY="2") for _ in HALF_OPEN]
    jobs = await submit(cluster, 2 * len(workers), steps=8, stepSeconds=0.5)
    for worker, _ in workers:
        await all_at_work(cluster, worker, 2)

    for (_, proxies), (server, way) in zip(workers, HALF_OPEN, strict=True):
        proxies[server].freeze(only=way)
    await cluster.start_workers(1, USA_CONCURRENCY="8")
    await passed(BEYOND_A_LEASE)
    for _, proxies in workers:
        for proxy in proxies.values():
            proxy.thaw()

    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    for worker, _ in workers:
        assert worker.logged("renewal_unavailable")
        assert worker.popen.poll() is None


async def test_a_half_open_connection_of_an_api_makes_no_second_job(
    cluster: Cluster, wires: Wires
) -> None:
    healthy = cluster.address
    apis = [await wires.start("api") for _ in HALF_OPEN]
    addresses = [(await api.ready())["address"] for api, _ in apis]
    for (_, proxies), (server, way) in zip(apis, HALF_OPEN, strict=True):
        proxies[server].freeze(only=way)

    async def submit_twice(address: str) -> UUID:
        key = str(uuid4())
        jobs = []
        for where in (address, healthy):
            async with ApiClient(where, cluster.key, patience=0) as client:
                try:
                    answer = await client.submit(STORY, agent="sleep", idempotency_key=key)
                except ClientFailure:
                    assert where != healthy
                else:
                    jobs.append(UUID(answer["job"]["id"]))
        assert len(set(jobs)) == 1
        return jobs[0]

    jobs = await asyncio.gather(*map(submit_twice, addresses))
    for _, proxies in apis:
        for proxy in proxies.values():
            proxy.thaw()
    await cluster.start_workers(1)

    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))


async def test_slow_networks_delay_jobs_and_no_more(cluster: Cluster, wires: Wires) -> None:
    late, far = await wires.start("worker")
    thin, narrow = await wires.start("worker")
    for proxy in narrow.values():
        proxy.limit(10_000)
    jobs = await submit(cluster, 8, steps=6, stepSeconds=0.3)
    await all_at_work(cluster, late, 3)

    for proxy in far.values():
        proxy.delay(1.0, jitter=0.1)
    await passed(BEYOND_A_LEASE)
    for proxy in far.values():
        proxy.delay(0.0)

    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    assert {late.popen.poll(), thin.popen.poll()} == {None}


@pytest.mark.parametrize(
    "write", [b'"steps":[', b'"stopReason"'], ids=["of an ending", "of a checkpoint"]
)
async def test_a_commit_whose_answer_breaks_off_counts_once(
    cluster: Cluster, wires: Wires, write: bytes
) -> None:
    _, proxies = await wires.start("worker")
    jobs = []
    for after in (0, 1, 7, 40):
        proxies["postgres"].break_answer(to=write, after=after)
        jobs += await submit(cluster, 1, steps=2)
        await cluster.all_ended(len(jobs), within=90)
    assert proxies["postgres"].resets == len(jobs)

    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    assert await cluster.count("SELECT count(*) FROM jobs WHERE attempt > 1") == 0


async def test_a_worker_leaves_in_time_although_redis_is_out_of_reach(
    cluster: Cluster, wires: Wires
) -> None:
    leaving, proxies = await wires.start("worker", USA_SHUTDOWN_GRACE="1")
    jobs = await submit(cluster, 3, steps=8, stepSeconds=0.5)
    await all_at_work(cluster, leaving, 3)

    proxies["redis"].freeze()
    leaving.send(signal.SIGTERM)

    # The grace, and the margin that the chart leaves after it, with some for a busy machine.
    assert await leaving.ended(within=1 + 15 + 10) == 0
    assert leaving.logged("entries_not_released")
    assert leaving.logged("consumer_not_removed")
    await cluster.start_workers(1)
    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    assert await cluster.count("SELECT count(*) FROM jobs WHERE error_count > 0") == 0
