"""One attempt: it ends in the right way and is recorded once."""

import asyncio
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from service.domain.attempt import Fence
from service.domain.errors import FailureKind, JobFailure, ModelFailure, Unavailable
from service.domain.events import EventType
from service.domain.job import JsonObject
from service.domain.transitions import Complete, Fail, Retry
from service.ports.agent import Attempt
from service.telemetry.metrics import REGISTRY
from tests.fixtures.models import ScriptedModel
from tests.fixtures.waiting import eventually
from tests.unit.domain.jobs import JOB, NOON
from tests.unit.worker.attempts import DELIVERY, a_bench, for_ever
from tests.unit.worker.processing import ended, failing_with, paying, process


async def test_a_result_is_recorded_with_what_the_ledger_says_it_cost() -> None:
    completed = ended("completed")
    async with a_bench(paying(ScriptedModel())) as bench:
        current = bench.processor.current_job_id
        await bench.processor.process()

        assert (current, bench.processor.current_job_id) == (JOB.id, None)
        (transition,) = bench.attempts.recorded
        assert isinstance(transition, Complete)
        assert transition.result["text"] == "draft"
        assert transition.result["tokenUsage"]["input"] == 70
        assert transition.result["costUsd"] == pytest.approx(0.075)
        assert await bench.events() == ["complete"]
        assert bench.doorbell.acknowledged == [DELIVERY]
        assert bench.leases._held == {}
    assert ended("completed") == completed + 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            ModelFailure("MODEL_UNAVAILABLE", "busy", kind=FailureKind.TRANSIENT, retry_after=7.0),
            Retry(7.0, "MODEL_UNAVAILABLE", "busy"),
        ),
        (JobFailure("MODEL_REFUSED", "no"), Fail("MODEL_REFUSED", "no")),
        (
            ZeroDivisionError("secret"),
            Fail("PROCESSING_ERROR", "an unexpected ZeroDivisionError occurred", retryable=True),
        ),
    ],
    ids=["transient", "permanent", "unexpected"],
)
async def test_an_error_ends_the_attempt_by_its_kind(error: Exception, expected: object) -> None:
    async def act(_: Attempt) -> JsonObject:
        raise error

    async with a_bench(act) as bench:
        await bench.processor.process()

        assert bench.attempts.recorded == [expected]
        assert bench.doorbell.acknowledged == [DELIVERY]
        kind = "retrying" if isinstance(expected, Retry) else "error"
        assert await bench.events() == [kind]


async def test_an_outage_that_an_agent_runs_into_is_tried_again() -> None:
    async def act(_: Attempt) -> JsonObject:
        raise Unavailable("a service of its own")

    async with a_bench(act) as bench:
        await bench.processor.process()

        assert isinstance(bench.attempts.recorded[0], Retry)


async def test_an_agent_that_this_worker_does_not_know_may_be_known_to_another() -> None:
    async with a_bench(for_ever, agent="newer") as bench:
        await bench.processor.process()

        (transition,) = bench.attempts.recorded
        assert isinstance(transition, Retry)
        assert transition.code == "PROCESSING_ERROR"


async def test_what_this_worker_cannot_read_is_not_paid_again_and_left_to_another() -> None:
    model = ScriptedModel()
    async with a_bench(paying(model), is_damaged=True) as bench:
        await bench.processor.process()

        (transition,) = bench.attempts.recorded
        assert isinstance(transition, Retry)
        assert transition.message == "this worker cannot read a finished call of the job"
    assert model.called == []


async def test_the_last_error_of_the_budget_fails_the_job() -> None:
    async with a_bench(for_ever, agent="newer", error_count=2) as bench:
        await bench.processor.process()

        assert (await failing_with(bench)).code == "ATTEMPTS_EXHAUSTED"


async def test_an_agent_that_cancels_itself_uses_up_its_errors_and_is_not_handed_back() -> None:
    async def act(_: Attempt) -> JsonObject:
        raise asyncio.CancelledError

    async with a_bench(act) as bench:
        await bench.processor.process()

        (transition,) = bench.attempts.recorded
        assert isinstance(transition, Retry)
        assert transition.code == "PROCESSING_ERROR"


async def test_a_result_that_cannot_be_stored_fails_the_job_at_once() -> None:
    async def act(_: Attempt) -> JsonObject:
        return {"text": "x"}

    failed = ended("failed")
    async with a_bench(act) as bench:
        bench.attempts.refuses = TypeError("not JSON")
        await bench.processor.process()

        failure = await failing_with(bench)
        assert (failure.code, "not JSON" in failure.message) == ("PROCESSING_ERROR", False)
        assert await bench.events() == ["error"]
    assert ended("failed") == failed + 1


async def test_a_result_that_is_none_fails_the_job_at_once() -> None:
    async def act(_: Attempt) -> Any:
        return None

    async with a_bench(act) as bench:
        await bench.processor.process()

        assert (await failing_with(bench)).code == "PROCESSING_ERROR"


async def test_no_event_is_told_while_the_lease_is_in_doubt() -> None:
    go_on = asyncio.Event()

    async def act(attempt: Attempt) -> JsonObject:
        attempt.emit(EventType.START, {})
        await go_on.wait()
        return {"text": "done"}

    async with a_bench(act) as bench:
        (lease,) = bench.leases._held.values()
        lease.renewed_at = monotonic() - 0.7 * 60.0
        lease.check()
        assert bench.processor.lease_in_doubt
        task = await process(bench)
        await asyncio.wait({task}, timeout=0.05)
        assert await bench.events() == []

        lease.renewed_at = monotonic()
        lease.check()

        await eventually(bench.events)
        go_on.set()
        await task
        assert await bench.events() == ["start", "complete"]


async def test_no_call_is_made_while_the_lease_is_in_doubt() -> None:
    model = ScriptedModel()
    async with a_bench(paying(model)) as bench:
        (lease,) = bench.leases._held.values()
        lease.renewed_at = monotonic() - 0.7 * 60.0
        task = await process(bench)
        await asyncio.wait({task}, timeout=0.05)
        assert (model.called, bench.ledger.rows) == ([], {})

        lease.renewed_at = monotonic()
        await task

    assert model.called == ["draft"]


async def test_a_lease_counts_from_when_its_claim_was_sent() -> None:
    async with a_bench(for_ever) as bench:
        (lease,) = bench.leases._held.values()
        assert lease.fence == Fence(JOB.id, 1)
        assert lease.age < 5.0


async def test_a_job_is_suspect_until_it_finishes_a_call_after_a_crash() -> None:
    seen = []

    async def act(attempt: Attempt) -> JsonObject:
        seen.append(bench.processor.is_suspect)
        result: JsonObject = await paying(ScriptedModel())(attempt)
        seen.append(bench.processor.is_suspect)
        return result

    async with a_bench(act, crash_count=1) as bench:
        await bench.processor.process()

    assert seen == [True, False]


async def test_the_time_until_it_was_picked_up_counts_for_jobs_that_did_not_crash() -> None:
    def picked_up() -> tuple[float, float]:
        name = "usa_job_pickup_seconds"
        count = REGISTRY.get_sample_value(f"{name}_count") or 0.0
        return count, REGISTRY.get_sample_value(f"{name}_sum") or 0.0

    async def act(_: Attempt) -> JsonObject:
        return {}

    count, seconds = picked_up()
    async with a_bench(act, judged_at=NOON + timedelta(seconds=3)) as bench:
        await bench.processor.process()
    async with a_bench(act, judged_at=NOON + timedelta(minutes=5), crash_count=1) as bench:
        await bench.processor.process()

    assert picked_up()[0] == count + 1
    assert picked_up()[1] == pytest.approx(seconds + 3, abs=0.1)
