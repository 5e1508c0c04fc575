"""One attempt: whatever interrupts it, its ending is the right one and is recorded once."""

import asyncio
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from service.domain.attempt import Fence
from service.domain.errors import FailureKind, JobFailure, ModelFailure, Unavailable
from service.domain.events import EventType
from service.domain.job import JobStatus, JsonObject
from service.domain.transitions import Complete, Fail, HandBack, Retry
from service.ports import Attempt
from service.telemetry.metrics import REGISTRY
from service.worker import processor
from tests.fixtures.models import HeldModel, ScriptedModel, a_request
from tests.fixtures.waiting import eventually
from tests.unit.domain.jobs import JOB, NOON
from tests.unit.worker.attempts import DELIVERY, Bench, a_bench, for_ever


def ended(ending: str) -> float:
    return REGISTRY.get_sample_value("usa_attempts_ended_total", {"ending": ending}) or 0.0


async def process(bench: Bench) -> "asyncio.Task[None]":
    """The attempt at work."""
    task = asyncio.create_task(bench.processor.process())
    await eventually(lambda: bench.processor._work is not None)
    return task


def paying(model: ScriptedModel) -> Any:
    async def act(attempt: Attempt) -> JsonObject:
        reply = await attempt.pay_once("draft", model, a_request("draft"), lambda _: None)
        return {"text": reply.text}

    return act


async def failing_with(bench: Bench) -> Fail:
    (transition,) = bench.attempts.recorded
    assert isinstance(transition, Fail)
    return transition


# --- how it ends by itself -----------------------------------------------------------------------


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


# --- what interrupts it --------------------------------------------------------------------------


async def test_a_lost_lease_aborts_the_call_at_once_and_writes_nothing_but_its_cost() -> None:
    model, superseded = HeldModel(), ended("superseded")
    async with a_bench(paying(model)) as bench:
        task = await process(bench)
        await eventually(model.at_work.is_set)
        began = monotonic()
        bench.processor.abort()
        await task

        assert monotonic() - began < 0.5
        assert bench.attempts.recorded == []
        assert bench.ledger.endings == ["aborted"]
        # The job is processing through this very entry: it is somebody else's now.
        assert bench.doorbell.acknowledged == []
    assert ended("superseded") == superseded + 1


@pytest.mark.parametrize(
    ("status", "entry_id", "is_acknowledged"),
    [
        (JobStatus.CANCELLED, DELIVERY.entry_id, True),
        (JobStatus.COMPLETED, DELIVERY.entry_id, True),
        (JobStatus.PROCESSING, DELIVERY.entry_id, False),
        (JobStatus.PROCESSING, "9-0", True),
        (JobStatus.QUEUED, None, True),
    ],
)
async def test_a_superseded_attempt_acknowledges_only_an_entry_that_nobody_needs(
    status: JobStatus, entry_id: str | None, is_acknowledged: bool
) -> None:
    async with a_bench(for_ever) as bench:
        task = await process(bench)
        bench.attempts.status, bench.attempts.entry_id = status, entry_id
        bench.processor.abort()
        await task

        assert (bench.doorbell.acknowledged == [DELIVERY]) is is_acknowledged
        assert bench.attempts.recorded == []


async def test_an_attempt_that_is_handed_back_rings_again_before_its_entry_goes() -> None:
    model = HeldModel()
    async with a_bench(paying(model)) as bench:
        task = await process(bench)
        await eventually(model.at_work.is_set)
        bench.processor.hand_back()
        await task

        assert bench.attempts.recorded == [HandBack()]
        assert bench.ledger.endings == ["aborted"]
        assert bench.doorbell.log == ["add", "acknowledge"]
        assert bench.doorbell.added == [(JOB.id, 1)]
        assert bench.attempts.entry_id == "6-0"
        assert bench.doorbell.acknowledged == [DELIVERY]


async def test_an_error_while_cleaning_up_does_not_count_against_a_handed_back_job() -> None:
    async def act(_: Attempt) -> JsonObject:
        try:
            await asyncio.Event().wait()
        finally:
            raise ConnectionResetError("while closing")

    async with a_bench(act) as bench:
        task = await process(bench)
        await asyncio.sleep(0)
        bench.processor.hand_back()
        await task

        assert bench.attempts.recorded == [HandBack()]


async def test_work_that_ends_well_in_spite_of_an_interruption_counts() -> None:
    async def act(_: Attempt) -> JsonObject:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return {"text": "done"}
        return {}

    async with a_bench(act) as bench:
        task = await process(bench)
        await asyncio.sleep(0)
        bench.processor.hand_back()
        await task

        assert isinstance(bench.attempts.recorded[0], Complete)


async def test_an_attempt_that_is_handed_back_before_its_first_step_never_starts() -> None:
    model = ScriptedModel()
    async with a_bench(paying(model)) as bench:
        bench.processor.hand_back()
        await bench.processor.process()

        assert (bench.attempts.recorded, model.called) == ([HandBack()], [])


async def test_whoever_swallows_a_cancellation_gets_another_one() -> None:
    swallowed = []

    async def act(attempt: Attempt) -> JsonObject:
        try:
            return await for_ever(attempt)
        except asyncio.CancelledError:
            swallowed.append(1)
            return await for_ever(attempt)

    async with a_bench(act) as bench:
        task = await process(bench)
        await asyncio.sleep(0)
        bench.processor.abort()
        await eventually(lambda: swallowed)
        bench.processor.abort()
        await asyncio.wait_for(task, 1.0)


async def test_recording_is_not_disturbed() -> None:
    async def act(_: Attempt) -> JsonObject:
        return {"text": "done"}

    async with a_bench(act) as bench:
        bench.log.fail_before = 3
        task = await process(bench)
        await eventually(lambda: bench.attempts.recorded)
        bench.processor.abort()
        bench.processor.hand_back()
        await task

        assert [type(each) for each in bench.attempts.recorded] == [Complete]
        assert await bench.events() == ["complete"]
        assert bench.doorbell.acknowledged == [DELIVERY]


async def test_the_ending_waits_for_calls_that_are_being_written_down() -> None:
    model = HeldModel()
    async with a_bench(paying(model)) as bench:
        task = await process(bench)
        await eventually(model.at_work.is_set)
        bench.ledger.away = 3
        bench.processor.hand_back()
        await asyncio.wait({task}, timeout=0.03)
        assert (bench.attempts.recorded, bench.ledger.endings) == ([], [None])
        await task

        assert (bench.attempts.recorded, bench.ledger.endings) == ([HandBack()], ["aborted"])


# --- deadlines -----------------------------------------------------------------------------------


async def test_the_deadline_aborts_the_call_and_fails_the_job() -> None:
    model = HeldModel()
    deadline = NOON + timedelta(seconds=0.2)
    async with a_bench(paying(model), deadline_at=deadline) as bench:
        began = monotonic()
        await bench.processor.process()

        assert 0.2 <= monotonic() - began < 1.0
        failure = await failing_with(bench)
        assert (failure.code, failure.retryable) == ("DEADLINE_EXCEEDED", True)
        assert bench.ledger.endings == ["aborted"]
        assert await bench.events() == ["error"]


async def test_a_deadline_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_CANCEL_AGAIN", 0.05)

    async def act(attempt: Attempt) -> JsonObject:
        for _ in range(3):
            try:
                await for_ever(attempt)
            except asyncio.CancelledError:
                continue
        return await for_ever(attempt)

    async with a_bench(act, deadline_at=NOON) as bench:
        await asyncio.wait_for(bench.processor.process(), 2.0)

        assert (await failing_with(bench)).code == "DEADLINE_EXCEEDED"


async def test_time_is_what_postgres_says_whatever_the_clock_of_this_machine() -> None:
    # NOON is months away from this machine's time, and an hour before the deadline.
    async def act(_: Attempt) -> JsonObject:
        await asyncio.sleep(0.05)
        return {"text": "done"}

    async with a_bench(act) as bench:
        await bench.processor.process()
        assert isinstance(bench.attempts.recorded[0], Complete)
    async with a_bench(act, judged_at=NOON + timedelta(hours=2)) as bench:
        await bench.processor.process()
        assert isinstance(bench.attempts.recorded[0], Fail)


# --- doubt and suspicion -------------------------------------------------------------------------


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
