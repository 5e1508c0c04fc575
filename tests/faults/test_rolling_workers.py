"""Deploy after deploy: jobs that outlive many workers lose neither retries nor paid calls."""

import asyncio
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from time import monotonic

import orjson
import pytest

from service.agent.model_stub import ModelStub, StubCall, write_reply
from service.domain.iterations import ITERATIONS
from service.domain.job import JsonObject
from tests.faults.aftermath import nothing_went_wrong
from tests.faults.stories import submit_numbers
from tests.fixtures.figures import show
from tests.fixtures.processes import Cluster, ServiceProcess
from tests.fixtures.scale import scaled

CALL_SECONDS = scaled(0.45, 1.0)
HAND_BACKS = scaled(20, 100)
JOBS = 12
WORKERS = 2
EVERY = 3.0
# A draft and a verification for each of them.
CALLS = 2 * len(ITERATIONS)


def _write(body: JsonObject) -> str:
    """Change what every iteration may change, so that every draft is verified."""
    reply = orjson.loads(write_reply(body))
    for patch in reply.get("patches", ()):
        patch["path"] = "openQuestions"
    return orjson.dumps(reply).decode()


@pytest.fixture
async def steady_stub() -> AsyncIterator[ModelStub]:
    """A stand-in for Claude whose calls all take the same time."""
    stub = ModelStub(writer=_write, pause=CALL_SECONDS, piece_length=1_000_000)
    await stub.start()
    yield stub
    await stub.stop()


@pytest.mark.timeout(600)
async def test_jobs_outlive_many_generations_of_workers_free_of_charge(
    cluster: Cluster, steady_stub: ModelStub
) -> None:
    cluster.environment |= {
        "USA_MODEL": "anthropic",
        "ANTHROPIC_API_KEY": "sk-ant-of-the-test",
        "ANTHROPIC_BASE_URL": steady_stub.address,
        "USA_CONCURRENCY": str(JOBS // WORKERS),
        # A worker that starves for some seconds, on a busy machine, is not to look dead.
        "USA_LEASE": "15",
        "USA_RENEW_EVERY": "4",
    }
    await cluster.start_api()
    started = monotonic()
    jobs = await submit_numbers(cluster, range(JOBS), iterations=list(ITERATIONS))

    generations = await replace_workers(cluster)

    within = 30 + 2 * CALLS * CALL_SECONDS
    assert await cluster.all_ended(JOBS, within=within) == {"completed": JOBS}
    took = monotonic() - started
    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    for left in generations[:-1]:
        assert [await worker.ended() for worker in left] == [0] * WORKERS
    rows = await cluster.rows("SELECT attempt, handback_count, error_count, crash_count FROM jobs")
    assert [(row["error_count"], row["crash_count"]) for row in rows] == [(0, 0)] * JOBS
    assert all(row["attempt"] == row["handback_count"] + 1 for row in rows)
    handed_back = sum(row["handback_count"] for row in rows)
    assert handed_back >= HAND_BACKS
    await expect_no_answer_is_asked_for_again(cluster, steady_stub)
    attempts = sorted(row["attempt"] for row in rows)
    show(
        f"{handed_back} hand-backs of {JOBS} jobs in {took:.0f} s, {len(generations)} generations:"
        f" {attempts[0]} to {attempts[-1]} attempts, {len(steady_stub.calls)} calls made for"
        f" {JOBS * CALLS} needed"
    )


async def replace_workers(cluster: Cluster) -> list[list[ServiceProcess]]:
    """Replace all workers every few seconds until there were enough hand-backs."""
    generations = [await cluster.start_workers(WORKERS)]
    while await cluster.count("SELECT sum(handback_count) FROM jobs") < HAND_BACKS:
        assert set(await cluster.statuses()) != {"completed"}, "too few hand-backs"
        # Their time to work, not a wait for anything.
        await asyncio.sleep(EVERY)
        for worker in generations[-1]:
            worker.send(signal.SIGTERM)
        generations.append(await cluster.start_workers(WORKERS))
    return generations


async def expect_no_answer_is_asked_for_again(cluster: Cluster, stub: ModelStub) -> None:
    """The model's own books: the answer that was written down is the last one to its question."""
    kept = await cluster.rows(
        "SELECT request_id FROM checkpoints c JOIN usage_records u USING (job_id, step)"
        " WHERE u.ending = 'finished'"
    )
    asked: dict[bytes, list[StubCall]] = defaultdict(list)
    for call in stub.calls:
        asked[orjson.dumps(call.body, option=orjson.OPT_SORT_KEYS)].append(call)
    assert len(kept) == len(asked) == JOBS * CALLS
    assert {row["request_id"] for row in kept} == {calls[-1].id for calls in asked.values()}
    assert {call.status for call in stub.calls} <= {200, None}
