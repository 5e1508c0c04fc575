"""DELETE on one replica of a job that runs elsewhere: its call ends at once, and so does it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
import redis.asyncio

from service.agent.model_stub import ModelStub, StubCall
from service.client.api_client import ApiClient
from service.client.errors import ApiProblem
from service.domain.events import EventType
from service.streams import keys
from tests.faults.aftermath import nothing_went_wrong
from tests.faults.jobs import submit
from tests.faults.stories import number_of, submit_numbers
from tests.fixtures.figures import show, spread
from tests.fixtures.invariants import ENDING_OF
from tests.fixtures.processes import Cluster
from tests.fixtures.proxy import redis_proxy_to
from tests.fixtures.waiting import eventually

CANCELS = 100
AT_ONCE = 10
ITERATIONS = ["validation"]
STEP_SECONDS = 0.3
# About what a job takes that does nothing, on a machine that has other things to do.
NOOP_SECONDS = 0.05
RACES = 40

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def slow_stub() -> AsyncIterator[ModelStub]:
    """A stand-in for Claude that writes so slowly that whoever cancels finds it writing."""
    stub = ModelStub(pause=0.3)
    await stub.start()
    yield stub
    await stub.stop()


@pytest.fixture
async def calling(cluster: Cluster, slow_stub: ModelStub) -> Cluster:
    """A cluster whose workers call the stub; no process yet."""
    cluster.environment |= {
        "USA_MODEL": "anthropic",
        "ANTHROPIC_API_KEY": "sk-ant-of-the-test",
        "ANTHROPIC_BASE_URL": slow_stub.address,
        "USA_CONCURRENCY": str(AT_ONCE),
    }
    return cluster


async def being_answered(stub: ModelStub, number: int) -> StubCall:
    """The call of a story, once a part of its answer has been sent."""

    def look() -> StubCall | None:
        calls = [each for each in stub.calls if each.body and number_of(each.body) == number]
        return next((each for each in calls if each.billed.output > 1), None)

    return await eventually(look, within=30, what=f"the answer to number {number} begins")


async def closed_after(call: StubCall, since: float) -> float:
    """How long after a moment the model saw its connection closed by the caller."""
    await eventually(lambda: call.ended is not None, within=20, what="the connection is closed")
    assert call.closed_early
    assert not call.completed
    return max(0.0, (call.ended or since) - since)


async def endings_in_redis(cluster: Cluster, job_id: UUID) -> list[str]:
    """Every ending in a job's stream, those included that no reader would be told."""
    async with redis.asyncio.Redis.from_url(cluster.environment["USA_REDIS_URL"]) as client:
        entries: Any = await client.xrange(keys.events(job_id))
    types = [fields[b"type"].decode() for _, fields in entries]
    return [each for each in types if EventType(each).is_terminal]


async def test_the_call_of_a_cancelled_job_is_cut_off_and_booked(
    calling: Cluster, slow_stub: ModelStub
) -> None:
    await calling.start_api()
    elsewhere = calling.address
    await calling.start_api()
    await calling.start_workers(2)
    jobs: dict[UUID, StubCall] = {}
    delays: list[float] = []
    numbers = iter(range(CANCELS))

    async def cancel_some(replica: ApiClient) -> None:
        for number in numbers:
            (job_id,) = await submit_numbers(calling, [number], iterations=ITERATIONS)
            jobs[job_id] = await being_answered(slow_stub, number)
            assert await replica.cancel(job_id) == {"id": str(job_id), "status": "cancelled"}
            delays.append(await closed_after(jobs[job_id], monotonic()))

    async with ApiClient(elsewhere, calling.key) as replica:
        await asyncio.gather(*(cancel_some(replica) for _ in range(AT_ONCE)))

    show(f"from the answer to DELETE to the closed connection: {spread(delays)}")
    await nothing_went_wrong(calling, dict.fromkeys(jobs, "cancelled"))
    for job_id in jobs:
        assert await endings_in_redis(calling, job_id) == ["cancelled"]
    assert len(slow_stub.calls) == len(delays) == CANCELS
    rows = await calling.rows("SELECT * FROM usage_records")
    assert Counter(row["ending"] for row in rows) == {"aborted": CANCELS}
    for row in rows:
        billed = jobs[row["job_id"]].billed
        read = (billed.input, billed.cache_read, billed.cache_write)
        assert (row["input_tokens"], row["cache_read_tokens"], row["cache_write_tokens"]) == read
        assert row["output_tokens"] > 0
        assert row["estimated"]


async def test_the_renewal_finds_out_when_the_nudge_is_lost(
    calling: Cluster, slow_stub: ModelStub
) -> None:
    async with redis_proxy_to(calling.environment["USA_REDIS_URL"]) as (proxy, url):
        await calling.start_api(USA_REDIS_URL=url)
        await calling.start_workers(1)
        jobs = await submit_numbers(calling, [1, 2, 3], iterations=ITERATIONS)
        calls = [await being_answered(slow_stub, number) for number in (1, 2, 3)]
        # Now neither a nudge nor an event of this replica gets through.
        proxy.freeze()
        since = monotonic()
        async with calling.client() as client:
            for job_id in jobs:
                await client.cancel(job_id)
        delays = [await closed_after(call, since) for call in calls]
        show(f"from DELETE to the closed connection, with its nudge lost: {spread(delays)}")
        proxy.thaw()
        await nothing_went_wrong(calling, dict.fromkeys(jobs, "cancelled"))
    assert len(slow_stub.calls) == len(jobs)


async def test_a_queued_job_that_is_cancelled_is_never_begun(
    calling: Cluster, slow_stub: ModelStub
) -> None:
    await calling.start_api()
    jobs = await submit_numbers(calling, range(5), iterations=ITERATIONS)
    async with calling.client() as client:
        for job_id in jobs:
            await client.cancel(job_id)
    await calling.start_workers(1)
    (last,) = await submit(calling, 1)

    await nothing_went_wrong(calling, {**dict.fromkeys(jobs, "cancelled"), last: "completed"})
    assert slow_stub.calls == []
    assert await calling.count("SELECT count(*) FROM jobs WHERE started_at IS NOT NULL") == 1


@dataclass
class Races:
    """What DELETE has answered."""

    ended: dict[UUID, str] = field(default_factory=dict)

    async def cancel(self, client: ApiClient, job_id: UUID) -> None:
        try:
            await client.cancel(job_id)
        except ApiProblem as problem:
            if problem.code != "JOB_FINISHED":
                raise
            self.ended[job_id] = "completed"
        else:
            self.ended[job_id] = "cancelled"


async def test_of_a_completion_and_a_cancellation_exactly_one_wins(cluster: Cluster) -> None:
    await cluster.start_api()
    await cluster.start_workers(2, USA_CONCURRENCY="10")
    races = Races()

    async def race(client: ApiClient, place: float, seconds: float, **job: Any) -> None:
        answer = await client.submit("x", **job)
        # From well before its end to well after it.
        await asyncio.sleep(2 * place * seconds)
        await races.cancel(client, UUID(answer["job"]["id"]))

    sleeper = {"agent": "sleep", "options": {"steps": 1, "stepSeconds": STEP_SECONDS}}
    async with cluster.client() as client:
        for first in range(RACES // AT_ONCE):
            places = [number / RACES for number in range(first, RACES, RACES // AT_ONCE)]
            await asyncio.gather(
                *(race(client, place, STEP_SECONDS, **sleeper) for place in places),
                *(race(client, place, NOOP_SECONDS, agent="noop") for place in places),
            )

    wins = Counter(races.ended.values())
    show(f"of {2 * RACES} races: {dict(wins)}")
    assert set(wins) == {"completed", "cancelled"}
    assert len(races.ended) == 2 * RACES
    await nothing_went_wrong(cluster, races.ended)
    for job_id, status in races.ended.items():
        assert await endings_in_redis(cluster, job_id) == [ENDING_OF[status]]
