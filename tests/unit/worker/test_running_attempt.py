"""Paying once: a call is written down before it is made, and never made twice."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service.domain.attempt import Fence
from service.domain.errors import FailureKind, LeaseLost, ModelFailure
from service.domain.outcome import OutOfQuota
from service.domain.quota import TokenDay
from service.supervision import Background
from service.worker.running_attempt import RunningAttempt
from service.worker.stopping import StopRequested
from tests.fixtures.models import (
    MODEL,
    USED,
    ScriptedModel,
)
from tests.fixtures.waiting import eventually
from tests.unit.domain.jobs import JOB
from tests.unit.worker.ledger import MemoryLedger
from tests.unit.worker.paying import FENCE, Pedals, an_attempt, counted, pay


async def test_a_call_is_written_down_before_it_is_made_and_after_it_has_ended(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    model = ScriptedModel(before_reply=lambda: ledger.log.append("call"))

    checkpoint = await pay(attempt, model)

    assert ledger.log == ["open draft", "call", "close draft finished"]
    assert ledger.checkpoints == {"draft": checkpoint}
    assert (checkpoint.text, checkpoint.model, checkpoint.usage) == ("draft", MODEL, USED)
    row = ledger.rows[FENCE, 1]
    assert (row.opening.model, row.opening.estimated_input) == ("scripted-alias", USED.input)
    assert row.closing is not None
    assert (row.closing.model, row.closing.request_id) == (MODEL, "req-7")
    assert row.closing.cost_usd == checkpoint.cost_usd


async def test_a_step_that_is_written_down_is_never_paid_again(
    attempt: RunningAttempt, ledger: MemoryLedger, background: Background
) -> None:
    first, second = ScriptedModel(), ScriptedModel()
    paid = await pay(attempt, first)
    ledger.current = {Fence(JOB.id, 2)}

    again = await pay(attempt, second)
    next_attempt = an_attempt(ledger, background, number=2)
    resumed = await pay(next_attempt, second)

    assert paid == again == resumed
    assert (first.called, second.called) == (["draft"], [])


async def test_an_opening_waits_for_postgres_instead_of_failing_the_attempt(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    ledger.away = 3
    model = ScriptedModel()

    await pay(attempt, model)

    assert model.called == ["draft"]
    assert ledger.endings == ["finished"]


@pytest.mark.parametrize("kind", FailureKind)
async def test_a_failed_call_is_counted_by_kind_and_an_operator_is_told_of_what_needs_one(
    attempt: RunningAttempt, kind: FailureKind
) -> None:
    before = counted("usa_model_failures_total", kind=kind)
    model = ScriptedModel(failure=ModelFailure("MODEL_UNAVAILABLE", "the model is away", kind=kind))

    with capture_logs() as logs, pytest.raises(ModelFailure):
        await pay(attempt, model)

    assert counted("usa_model_failures_total", kind=kind) == before + 1
    told = [log["failure"] for log in logs if log["event"] == "model_needs_operator"]
    assert told == (["the model is away"] if kind is FailureKind.CONFIGURATION else [])


async def test_no_call_is_made_for_an_attempt_that_was_superseded(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    ledger.current.clear()
    model, fenced = ScriptedModel(), counted("usa_writes_fenced_total", write="open_call")

    with pytest.raises(LeaseLost):
        await pay(attempt, model)

    await attempt.bookings_done()
    assert model.called == []
    assert counted("usa_writes_fenced_total", write="open_call") == fenced + 1


async def test_a_call_that_ends_after_the_attempt_was_superseded_is_paid_and_not_kept(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    fenced = counted("usa_writes_fenced_total", write="checkpoint")

    with pytest.raises(LeaseLost):
        await pay(attempt, ScriptedModel(before_reply=ledger.current.clear))

    assert ledger.endings == ["finished"]
    assert ledger.checkpoints == {}
    assert not attempt.has_progressed
    assert counted("usa_writes_fenced_total", write="checkpoint") == fenced + 1


async def test_no_call_begins_while_the_lease_is_in_doubt(
    attempt: RunningAttempt, ledger: MemoryLedger, pedals: Pedals
) -> None:
    pedals.lease_in_doubt = True
    model = ScriptedModel()
    task = asyncio.create_task(pay(attempt, model))
    await asyncio.wait({task}, timeout=0.05)
    assert (ledger.log, model.called) == ([], [])

    pedals.lease_in_doubt = False

    await task
    assert model.called == ["draft"]


async def test_no_call_begins_when_doubt_arises_while_it_is_opened(
    attempt: RunningAttempt, ledger: MemoryLedger, pedals: Pedals
) -> None:
    ledger.opening.clear()
    model = ScriptedModel()
    task = asyncio.create_task(pay(attempt, model))
    await eventually(lambda: ledger._sent)
    pedals.lease_in_doubt = True
    ledger.opening.set()
    await asyncio.wait({task}, timeout=0.05)
    assert (ledger.log, model.called) == (["open draft"], [])

    pedals.lease_in_doubt = False

    await task
    assert model.called == ["draft"]


async def test_a_call_that_runs_when_doubt_arises_is_finished_and_kept(
    attempt: RunningAttempt, ledger: MemoryLedger, pedals: Pedals
) -> None:
    model = ScriptedModel(before_reply=lambda: setattr(pedals, "lease_in_doubt", True))

    await pay(attempt, model)

    assert "draft" in ledger.checkpoints


async def test_the_attempt_stops_at_a_finished_call_when_its_process_leaves(
    attempt: RunningAttempt, ledger: MemoryLedger, pedals: Pedals
) -> None:
    model = ScriptedModel(before_reply=lambda: setattr(pedals, "stop_at_next_call", True))

    with pytest.raises(StopRequested):
        await pay(attempt, model)
    with pytest.raises(StopRequested):
        await pay(attempt, model, "verify")

    assert (model.called, list(ledger.checkpoints)) == (["draft"], ["draft"])
    assert ledger.log == ["open draft", "close draft finished"]


async def test_the_quota_is_asked_once_per_iteration_and_through_an_outage(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    ledger.day = TokenDay(limit=100, used=10, expected=10, seconds_left=60.0)
    ledger.away = 1

    for step in ("one/draft", "one/verify", "two/draft"):
        await pay(attempt, ScriptedModel(), step)

    assert ledger.days_read == 2


async def test_an_iteration_without_room_is_not_begun_and_says_when_to_come_back(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    ledger.day = TokenDay(limit=100, used=95, expected=10, seconds_left=60.0)
    model = ScriptedModel()

    with pytest.raises(StopRequested) as stop:
        await pay(attempt, model, "one/draft")

    assert stop.value.outcome == OutOfQuota(60.0)
    assert (model.called, ledger.rows) == ([], {})
