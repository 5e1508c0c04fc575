"""Redis or Postgres away for a while: what is promised meanwhile, and what it may cost."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
import redis

from service.agent.model_stub import ModelStub
from service.embedded import EmbeddedPostgres, EmbeddedValkey
from tests.faults.aftermath import nothing_went_wrong
from tests.faults.jobs import submit
from tests.faults.stories import submit_numbers
from tests.fixtures.figures import show, spread
from tests.fixtures.processes import Cluster
from tests.fixtures.scale import scaled
from tests.fixtures.servers import create_database, drop_database
from tests.fixtures.waiting import eventually

RUNNING = 6
POST_EVERY = 0.2
REDIS_DOWN = scaled(4.0, 30.0)
STEPS = 12
STEP_SECONDS = REDIS_DOWN / 8
# For so long a call that has begun must not be for nothing, with the default lease.
POSTGRES_DOWN = scaled(9.0, 30.0)
DEFAULT_LEASE = {"USA_LEASE": "15", "USA_RENEW_EVERY": "4"}
ANSWER_WITHIN = 3.0
SENDERS = 3
UNDER_LOAD = scaled(3.0, 30.0)


@pytest.fixture
def redis_url(valkey_server: EmbeddedValkey) -> Iterator[str]:
    """An empty server that the test may stop; what is in it does not survive."""
    with redis.Redis.from_url(valkey_server.url) as client:
        client.flushall()
    yield valkey_server.url
    if not valkey_server.is_running:
        valkey_server.start()


@pytest.fixture
async def database_url(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A new database on a server that the test may stop."""
    name = f"test_{uuid4().hex[:12]}"
    yield await create_database(postgres_server.url, name)
    if not postgres_server.is_running:
        postgres_server.start()
    await drop_database(postgres_server.url, name)


@pytest.fixture
async def steady_stub() -> AsyncIterator[ModelStub]:
    """A stand-in for Claude whose calls take a second."""
    stub = ModelStub(pause=1.0, piece_length=1_000_000)
    await stub.start()
    yield stub
    await stub.stop()


@dataclass
class Sender:
    """A client that sends each job until it is accepted, and notes every answer."""

    cluster: Cluster
    session: aiohttp.ClientSession
    answers: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    async def post(self, key: str, **job: Any) -> UUID | None:
        """Ask once; None for a refusal, which says when to come back."""
        since = monotonic()
        async with self.session.post(
            f"{self.cluster.address}/api/v1/jobs",
            json={"story": "x", **job},
            headers={"Authorization": f"Bearer {self.cluster.key}", "Idempotency-Key": key},
        ) as response:
            document = await response.json()
        self.seconds.append(monotonic() - since)
        self.answers[response.status] += 1
        if response.status == 202:
            return UUID(document["job"]["id"])
        assert (response.status, document["code"]) == (503, "UNAVAILABLE")
        assert int(response.headers["Retry-After"]) >= 1
        return None

    async def insist(self, key: str, **job: Any) -> UUID:
        """Ask until the job is accepted."""

        async def accepted() -> UUID | None:
            return await self.post(key, **job)

        return await eventually(accepted, within=40, what=f"{key} is accepted")

    async def readiness(self, address: str) -> tuple[int, str]:
        """What a process says of itself."""
        async with self.session.get(f"{address}/readyz") as response:
            return response.status, (await response.json())["status"]


@pytest.fixture
async def sender(cluster: Cluster) -> AsyncIterator[Sender]:
    async with aiohttp.ClientSession() as session:
        yield Sender(cluster, session)


async def all_paying(cluster: Cluster) -> bool:
    """Whether every job has a finished call and is at work on another."""
    return (
        await cluster.count(
            "SELECT count(*) FROM jobs j WHERE status = 'processing'"
            " AND EXISTS (SELECT FROM checkpoints c WHERE c.job_id = j.id)"
            " AND EXISTS (SELECT FROM usage_records u WHERE u.job_id = j.id AND ending IS NULL)"
        )
        == RUNNING
    )


@pytest.mark.timeout(180)
async def test_without_redis_jobs_are_accepted_and_running_ones_go_on(
    cluster: Cluster, sender: Sender, valkey_server: EmbeddedValkey
) -> None:
    await cluster.start_api()
    workers = await cluster.start_workers(2, USA_CONCURRENCY=str(RUNNING))
    running = await submit(cluster, RUNNING, steps=STEPS, stepSeconds=STEP_SECONDS)
    await eventually(lambda: all_paying(cluster), within=30, what="all are at work")
    finished = await cluster.count("SELECT count(*) FROM checkpoints")
    valkey_server.kill()
    since = monotonic()

    accepted: list[UUID] = []
    while monotonic() - since < REDIS_DOWN:
        accepted.append(await sender.insist(f"while-down-{len(accepted)}", agent="noop"))
        assert await sender.readiness(cluster.address) == (200, "degraded")
        await asyncio.sleep(POST_EVERY)
    for worker in workers:
        assert await sender.readiness((await worker.ready())["metrics"]) == (200, "degraded")
    assert set(sender.answers) == {202}
    # At their own pace, but for what a busy machine takes.
    expected = RUNNING * REDIS_DOWN / STEP_SECONDS / 2
    assert await cluster.count("SELECT count(*) FROM checkpoints") - finished > expected
    assert await cluster.statuses() == {"processing": RUNNING, "queued": len(accepted)}

    valkey_server.start()
    back = monotonic()

    await eventually(lambda: are_completed(cluster, accepted), within=40, what="they run")
    show(
        f"Redis down for {REDIS_DOWN:g} s: {len(accepted)} jobs accepted, {spread(sender.seconds)};"
        f" they had run {monotonic() - back:.1f} s after its return"
    )
    await nothing_went_wrong(cluster, dict.fromkeys([*running, *accepted], "completed"))
    assert await cluster.count("SELECT count(*) FROM jobs WHERE attempt <> 1") == 0


async def are_completed(cluster: Cluster, jobs: list[UUID]) -> bool:
    return len(jobs) == await cluster.count(
        "SELECT count(*) FROM jobs WHERE id = ANY ($1) AND status = 'completed'", jobs
    )


def stop_immediately(postgres: EmbeddedPostgres) -> None:
    """As `pg_ctl stop -m immediate`: no checkpoint, and crash recovery at the next start."""
    os.kill(postgres.pid, signal.SIGQUIT)
    postgres.stop()


@pytest.mark.timeout(180)
async def test_without_postgres_nothing_is_promised_and_no_paid_call_is_lost(
    cluster: Cluster, sender: Sender, postgres_server: EmbeddedPostgres, steady_stub: ModelStub
) -> None:
    cluster.environment |= DEFAULT_LEASE | {
        "USA_MODEL": "anthropic",
        "ANTHROPIC_API_KEY": "sk-ant-of-the-test",
        "ANTHROPIC_BASE_URL": steady_stub.address,
    }
    await cluster.start_api()
    await cluster.start_workers(2, USA_CONCURRENCY=str(RUNNING))
    running = await submit_numbers(cluster, range(RUNNING), iterations=["validation", "security"])
    await eventually(lambda: all_paying(cluster), within=30, what="all are at work")
    stop_immediately(postgres_server)
    since = monotonic()
    under_way = [call for call in steady_stub.calls if call.ended is None]

    keys: list[str] = []
    while monotonic() - since < POSTGRES_DOWN:
        keys.append(f"while-down-{len(keys)}")
        assert await sender.post(keys[-1], agent="noop") is None
        assert await sender.readiness(cluster.address) == (503, "unavailable")
        await asyncio.sleep(POST_EVERY)
    show(
        f"Postgres down for {POSTGRES_DOWN:g} s: refused after {spread(sender.seconds)};"
        f" {len(under_way)} calls were under way"
    )
    # They ended while nobody could write that down.
    assert under_way
    assert all(call.completed for call in under_way)
    assert max(sender.seconds) < ANSWER_WITHIN
    postgres_server.start()
    back = monotonic()
    await cluster.reconnect()
    assert await cluster.count("SELECT count(*) FROM jobs") == RUNNING
    assert await cluster.count("SELECT sum(request_count) FROM daily_usage") == RUNNING

    accepted = [await sender.insist(key, agent="noop") for key in keys]
    show(f"accepted again {monotonic() - back:.1f} s after its return, all {len(accepted)} of them")
    await nothing_went_wrong(cluster, dict.fromkeys([*running, *accepted], "completed"))
    assert await cluster.count("SELECT count(*) FROM jobs WHERE attempt <> 1") == 0
    booked = await cluster.rows("SELECT request_id FROM usage_records")
    assert {row["request_id"] for row in booked} == {call.id for call in steady_stub.calls}
    assert len(booked) == len(steady_stub.calls)
    assert await cluster.count("SELECT count(*) FROM checkpoints") == len(steady_stub.calls)


@pytest.mark.timeout(180)
async def test_terminated_backends_cost_nobody_anything(cluster: Cluster, sender: Sender) -> None:
    await cluster.start_api()
    await cluster.start_workers(2, USA_CONCURRENCY="20")
    steps = 3
    accepted: dict[str, list[UUID]] = {"noop": [], "sleep": []}
    until = monotonic() + UNDER_LOAD

    async def submit_all(number: int) -> None:
        options = {"steps": steps, "stepSeconds": 0.3}
        while monotonic() < until:
            key = f"{number}-{len(accepted['noop'])}"
            accepted["noop"].append(await sender.insist(f"n-{key}", agent="noop"))
            job = await sender.insist(f"s-{key}", agent="sleep", options=options)
            accepted["sleep"].append(job)

    async def terminate() -> int:
        terminated = 0
        while monotonic() < until:
            terminated += await cluster.count(
                "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.2)
        return terminated

    async with asyncio.TaskGroup() as group:
        terminating = group.create_task(terminate())
        for number in range(SENDERS):
            group.create_task(submit_all(number))
    terminated = terminating.result()

    jobs = [job for several in accepted.values() for job in several]
    show(
        f"{terminated} backends terminated while {len(jobs)} jobs were sent:"
        f" {dict(sender.answers)}, {spread(sender.seconds)}"
    )
    assert terminated > len(cluster.processes)
    assert max(sender.seconds) < ANSWER_WITHIN
    assert len(set(jobs)) == len(jobs)
    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    assert await cluster.count("SELECT count(*) FROM jobs WHERE attempt <> 1") == 0
    calls = steps * len(accepted["sleep"])
    assert await cluster.count("SELECT count(*) FROM checkpoints") == calls
    assert await cluster.count("SELECT count(*) FROM usage_records") == calls
