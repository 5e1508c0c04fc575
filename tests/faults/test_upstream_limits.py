"""Several workers under the rate limits of one API: none refused, little wasted, nobody starved."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from service.agent.model_stub import ModelStub, StubCall
from service.bootstrap import create_api_key
from service.client.api_client import ApiClient
from service.domain.api_keys import Scope
from service.domain.job import Owner
from service.domain.upstream import BURST, Rates
from service.domain.usage import cost_of
from service.settings import Settings
from tests.fixtures.figures import show
from tests.fixtures.processes import Cluster
from tests.fixtures.scale import scaled
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(scaled(120, 400))

WORKERS = 4
JOBS = scaled(30, 200)
CALLS_PER_JOB = 2
BACKLOG = scaled(30, 100)
USED = scaled(0.7, 0.9)
_OPTIONS = {"verify": False, "model": "claude-sonnet-5-5"}
_BOB_STARTED = "SELECT count(*) FROM jobs WHERE user_id = 'bob' AND started_at IS NOT NULL"
_ITERATIONS = ["validation", "security"]


@asynccontextmanager
async def api_with(limits: Rates) -> AsyncIterator[ModelStub]:
    """A stand-in for the API with limits, that takes some time for each call."""
    stub = ModelStub(pause=0.02, limits=limits)
    await stub.start()
    try:
        yield stub
    finally:
        await stub.stop()


async def start(cluster: Cluster, stub: ModelStub, concurrency: int) -> None:
    """Start an API and workers that call the stub."""
    await cluster.start_api(USA_MODEL="anthropic")
    await cluster.start_workers(
        WORKERS,
        USA_MODEL="anthropic",
        ANTHROPIC_API_KEY="sk-ant-of-the-test",
        ANTHROPIC_BASE_URL=stub.address,
        USA_CONCURRENCY=str(concurrency),
    )


async def submit(client: ApiClient, name: str, count: int) -> None:
    """Submit stories all at once."""
    await asyncio.gather(
        *(
            client.submit(
                f"As a user, I want thing {number} of {name}",
                iterations=_ITERATIONS,
                options=_OPTIONS,
            )
            for number in range(count)
        )
    )


def share_used(calls: Sequence[StubCall], kind: str, limit: float) -> float:
    """Which part of a limit the calls took, without the first burst and the last tenth."""
    ordered = sorted(calls, key=lambda call: call.started)
    costs = [getattr(cost_of(call.billed), kind) for call in ordered]
    first, last = len(ordered) * 4 // 10, len(ordered) * 9 // 10
    seconds = ordered[last].started - ordered[first].started
    return float(sum(costs[first:last])) * 60 / seconds / limit


@pytest.mark.parametrize(
    ("kind", "limits"),
    [
        ("requests", Rates(requests=scaled(120, 240), input=1_000_000, output=1_000_000)),
        ("input", Rates(requests=1_000, input=scaled(18_000, 36_000), output=1_000_000)),
        ("output", Rates(requests=1_000, input=1_000_000, output=scaled(15_000, 30_000))),
    ],
)
async def test_no_call_is_refused_and_the_limit_is_used(
    cluster: Cluster, kind: str, limits: Rates
) -> None:
    async with api_with(limits) as stub:
        await start(cluster, stub, concurrency=8)
        async with cluster.client() as client:
            await submit(client, "ann", JOBS)
        assert await cluster.all_ended(JOBS, within=300.0) == {"completed": JOBS}

        used = share_used(stub.calls, kind, getattr(limits, kind))
        refused = [call.status for call in stub.calls if call.status != 200]
        show(
            f"{WORKERS} workers, {JOBS} jobs, {len(stub.calls)} calls,"
            f" {getattr(limits, kind):.0f} {kind} per minute: {used:.1%} used,"
            f" {len(refused)} refused"
        )
        assert refused == []
        assert len(stub.calls) == JOBS * CALLS_PER_JOB
        assert used >= USED
        assert await cluster.count("SELECT count(*) FROM jobs WHERE error_count > 0") == 0


async def test_one_job_of_a_user_does_not_wait_behind_the_many_of_another(
    cluster: Cluster,
) -> None:
    async with api_with(Rates(requests=120)) as stub:
        await start(cluster, stub, concurrency=2)
        settings = Settings(
            redis_url=cluster.environment["USA_REDIS_URL"],
            database_url=cluster.environment["USA_DATABASE_URL"],
        )
        key, _ = await create_api_key(
            settings,
            Owner("acme", "bob"),
            name="tests",
            scopes=[Scope.JOBS_READ, Scope.JOBS_WRITE],
            tier="unlimited",
            valid_for=None,
        )
        async with cluster.client() as ann, ApiClient(cluster.address, key) as bob:
            await submit(ann, "ann", BACKLOG)
            await eventually(lambda: len(stub.calls) >= 120 * BURST, within=60.0)
            await submit(bob, "bob", 1)

            async def bob_started() -> bool:
                return await cluster.count(_BOB_STARTED) == 1

            await eventually(bob_started, within=60.0, what="Bob's job starts")
        before = await cluster.count(
            "SELECT count(*) FROM jobs ann, jobs bob WHERE ann.user_id = 'ann'"
            " AND bob.user_id = 'bob' AND ann.started_at > bob.created_at"
            " AND ann.started_at < bob.started_at"
        )
        show(f"{before} of Ann's {BACKLOG} jobs started between Bob's submission and his start")
        assert before < 10
