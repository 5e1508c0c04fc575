"""The ledger of an attempt: every opening that was sent is followed by a closing."""

import asyncio

import pytest

from service.domain.errors import ModelFailure
from service.domain.usage import Usage
from service.worker.running_attempt import RunningAttempt
from service.worker.stopping import StopRequested
from tests.fixtures.models import (
    MODEL,
    USED_SO_FAR,
    HeldModel,
    ScriptedModel,
    overloaded,
)
from tests.fixtures.waiting import eventually
from tests.unit.domain.jobs import JOB
from tests.unit.worker.ledger import MemoryLedger
from tests.unit.worker.paying import FENCE, Pedals, counted, interrupted, pay


async def test_a_failed_call_is_booked_with_what_it_used(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    with pytest.raises(ModelFailure):
        await pay(attempt, ScriptedModel(failure=overloaded()))
    await attempt.bookings_done()

    closing = ledger.rows[FENCE, 1].closing
    assert closing is not None
    assert (closing.ending, closing.checkpoint) == ("failed", None)
    assert closing.usage == USED_SO_FAR
    assert ledger.checkpoints == {}
    assert not attempt.has_progressed


async def test_a_call_that_fails_in_an_unknown_way_is_booked_too(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    with pytest.raises(ZeroDivisionError):
        await pay(attempt, ScriptedModel(failure=ZeroDivisionError()))
    await attempt.bookings_done()

    assert ledger.endings == ["failed"]


async def test_an_aborted_call_is_booked_with_estimated_output(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    model = HeldModel()

    task = await interrupted(pay(attempt, model), model.at_work.is_set)
    await attempt.bookings_done()

    assert task.cancelled()
    closing = ledger.rows[FENCE, 1].closing
    assert closing is not None
    assert closing.ending == "aborted"
    assert closing.usage == USED_SO_FAR


async def test_calls_are_numbered_within_their_attempt(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    for step in ("draft", "verify", "redo"):
        await pay(attempt, ScriptedModel(), step)

    assert [row.opening.call for row in ledger.rows.values()] == [1, 2, 3]


async def test_a_finished_call_is_booked_through_an_outage_and_heard_of_afterwards(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    model = ScriptedModel(before_reply=lambda: setattr(ledger, "away", 5))

    checkpoint = await pay(attempt, model)

    assert ledger.away == 0
    assert ledger.checkpoints["draft"] == checkpoint
    assert model.called == ["draft"]


async def test_a_lost_reply_to_a_booking_is_no_loss(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    model = ScriptedModel(before_reply=lambda: setattr(ledger, "unheard", 1))

    await pay(attempt, model)

    assert ledger.log == ["open draft", "close draft finished"]


async def test_cancelling_while_a_finished_call_is_booked_loses_nothing(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    model = ScriptedModel(before_reply=lambda: setattr(ledger, "away", 8))

    task = await interrupted(pay(attempt, model), lambda: model.called)
    await attempt.bookings_done()

    assert task.cancelled()
    assert "draft" in ledger.checkpoints
    assert ledger.endings == ["finished"]


async def test_a_fenced_checkpoint_is_counted_even_if_nobody_waits_for_it_any_more(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    fenced = counted("usa_writes_fenced_total", write="checkpoint")
    model = ScriptedModel(before_reply=lambda: setattr(ledger, "away", 8))
    task = await interrupted(pay(attempt, model), lambda: model.called)
    ledger.current.clear()
    await attempt.bookings_done()

    assert task.cancelled()
    assert (ledger.endings, ledger.checkpoints) == (["finished"], {})
    assert counted("usa_writes_fenced_total", write="checkpoint") == fenced + 1


async def test_a_call_cancelled_while_it_is_opened_leaves_no_open_row_behind(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    ledger.opening.clear()
    model = ScriptedModel()
    task = await interrupted(pay(attempt, model), lambda: ledger._sent)

    ledger.opening.set()
    await attempt.bookings_done()

    assert task.cancelled()
    assert (model.called, ledger.endings) == ([], ["aborted"])
    assert (await ledger.totals(JOB.id)).usage == Usage()


async def test_an_opening_whose_reply_was_lost_leaves_no_open_row_behind(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    ledger.unheard = 1_000_000
    task = await interrupted(pay(attempt, ScriptedModel()), lambda: ledger.rows)
    ledger.current.clear()

    ledger.unheard = 0
    await attempt.bookings_done()

    assert task.cancelled()
    assert ledger.endings == ["aborted"]


async def test_stopping_while_a_call_is_opened_closes_it_unmade(
    attempt: RunningAttempt, ledger: MemoryLedger, pedals: Pedals
) -> None:
    ledger.opening.clear()
    model = ScriptedModel()
    task = asyncio.create_task(pay(attempt, model))
    await eventually(lambda: ledger._sent)
    pedals.stop_at_next_call = True
    ledger.opening.set()

    with pytest.raises(StopRequested):
        await task
    await attempt.bookings_done()

    assert (model.called, ledger.endings) == ([], ["aborted"])


async def test_a_call_that_cannot_be_booked_fails_the_attempt(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    ledger.refuses = ValueError("not storable")

    with pytest.raises(ValueError, match="not storable"):
        await pay(attempt, ScriptedModel())
    await attempt.bookings_done()

    assert (ledger.endings, ledger.checkpoints) == ([None], {})


async def test_a_call_counts_once_however_often_it_is_written_down(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    def figures() -> list[float]:
        return [
            counted("usa_model_calls_total", model=MODEL, ending="finished"),
            counted("usa_model_call_seconds_count", model=MODEL),
        ]

    before = figures()
    # Every write is made twice.
    ledger.unheard = 1
    model = ScriptedModel(before_reply=lambda: setattr(ledger, "unheard", 1))

    await pay(attempt, model)

    added = [after - was for after, was in zip(figures(), before, strict=True)]
    assert added == [1, 1]
