"""Whatever interrupts an attempt, its ending is the right one."""

import asyncio
from datetime import timedelta
from time import monotonic

import pytest

from service.domain.job import JobStatus, JsonObject
from service.domain.transitions import Complete, Fail, HandBack
from service.ports.agent import Attempt
from service.worker import processor
from tests.fixtures.models import HeldModel, ScriptedModel
from tests.fixtures.waiting import eventually
from tests.unit.domain.jobs import JOB, NOON
from tests.unit.worker.attempts import DELIVERY, a_bench, for_ever
from tests.unit.worker.processing import ended, failing_with, paying, process


async def test_a_lost_lease_aborts_the_call_at_once_and_writes_nothing_but_its_cost() -> None:
    model, superseded = HeldModel(), ended("superseded")
    async with a_bench(paying(model)) as bench:
        task = await process(bench)
        await eventually(model.at_work.is_set)
        bench.processor.abort()
        await task

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


async def test_the_deadline_aborts_the_call_and_fails_the_job() -> None:
    model = HeldModel()
    deadline = NOON + timedelta(seconds=0.2)
    async with a_bench(paying(model), deadline_at=deadline) as bench:
        began = monotonic()
        await bench.processor.process()

        assert monotonic() - began >= 0.2
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
