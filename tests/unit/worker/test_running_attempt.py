"""Paying once: a call is written down before it is made, and however it ends."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import supervision
from service.domain.attempt import Checkpoint, Fence
from service.domain.errors import LeaseLost, ModelFailure
from service.domain.events import EventType
from service.domain.job import JsonObject
from service.domain.usage import Usage
from service.ports import Model
from service.supervision import Background
from service.telemetry.metrics import REGISTRY
from service.worker.running_attempt import RunningAttempt, StopRequested
from tests.fixtures.models import (
    MODEL,
    USED,
    USED_SO_FAR,
    HeldModel,
    ScriptedModel,
    a_request,
    overloaded,
)
from tests.fixtures.waiting import eventually
from tests.unit.domain.jobs import JOB, a_job
from tests.unit.worker.ledger import MemoryLedger

FENCE = Fence(JOB.id, 1)


@dataclass
class Pedals:
    """Brakes that the test steps on."""

    lease_in_doubt: bool = False
    stop_at_next_call: bool = False


@dataclass
class Told:
    """Events, and nothing else."""

    types: list[EventType] = field(default_factory=list)

    def emit(self, event_type: EventType, details: JsonObject) -> None:
        self.types.append(event_type)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(supervision, "_LONGEST_PAUSE", 0.01)
    monkeypatch.setattr("service.worker.running_attempt._DOUBT_POLL", 0.005)


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    background = Background()
    yield background
    await background.cancel()


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(current={FENCE})


@pytest.fixture
def pedals() -> Pedals:
    return Pedals()


@pytest.fixture
def attempt(ledger: MemoryLedger, background: Background, pedals: Pedals) -> RunningAttempt:
    return an_attempt(ledger, background, pedals)


def an_attempt(
    ledger: MemoryLedger, background: Background, pedals: Pedals | None = None, number: int = 1
) -> RunningAttempt:
    return RunningAttempt(
        a_job(attempt=number),
        ledger.checkpoints,
        events=Told(),
        ledger=ledger,
        background=background,
        brakes=pedals or Pedals(),
    )


async def pay(attempt: RunningAttempt, model: Model, step: str = "draft") -> Checkpoint:
    return await attempt.pay_once(step, model, a_request(step), lambda _: None)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def interrupted(
    work: Coroutine[Any, Any, Checkpoint], when: Callable[[], object]
) -> "asyncio.Task[Checkpoint]":
    """The work, cancelled at a moment."""
    task = asyncio.create_task(work)
    await eventually(when)
    task.cancel()
    await asyncio.wait({task})
    return task


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


@settings(deadline=None, max_examples=60)
@given(crashes=st.lists(st.integers(min_value=0, max_value=14), max_size=4))
def test_whatever_crashes_no_finished_call_is_made_again(crashes: list[int]) -> None:
    asyncio.run(survives(crashes))


async def survives(crashes: list[int]) -> None:
    """Kill each attempt at its n-th touch of the ledger or the model, then let one finish."""
    ledger, calls = MemoryLedger(), dict.fromkeys("abc", 0)
    for number, crash_at in enumerate([*crashes, None], start=1):
        ledger.current = {Fence(JOB.id, number)}
        background, left = Background(), [crash_at]
        attempt = an_attempt(CrashingLedger(ledger, left), background, number=number)
        model = CrashingModel(left, ledger)
        try:
            for step in calls:
                await pay(attempt, model, step)
        except Crash:
            assert crash_at is not None
        await background.cancel()
        for step in model.called:
            calls[step] += 1

    assert set(ledger.checkpoints) == set(calls)
    assert sum(calls.values()) <= len(calls) + len(crashes)


class Crash(BaseException):
    """The process dies."""


def step_towards_crash(left: list[int | None]) -> None:
    if left[0] is not None:
        left[0] -= 1
        if left[0] < 0:
            raise Crash


class CrashingLedger(MemoryLedger):
    """The same rows, touched by a process that dies before or after one of its writes."""

    def __init__(self, real: MemoryLedger, left: list[int | None]) -> None:
        super().__init__(real.current, real.rows, real.checkpoints, real.log)
        self.left = left

    def _fail_before(self) -> None:
        step_towards_crash(self.left)

    async def _answer(self, answer: bool) -> bool:
        step_towards_crash(self.left)
        return answer


class CrashingModel(ScriptedModel):
    """Checks that what it is asked was never answered before; its process may die over it."""

    def __init__(self, left: list[int | None], ledger: MemoryLedger) -> None:
        super().__init__(before_reply=self._before_reply)
        self._left = left
        self._ledger = ledger

    def _before_reply(self) -> None:
        assert self.called[-1] not in self._ledger.checkpoints
        step_towards_crash(self._left)


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


async def test_an_opening_waits_for_postgres_instead_of_failing_the_attempt(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    ledger.away = 3
    model = ScriptedModel()

    await pay(attempt, model)

    assert model.called == ["draft"]
    assert ledger.endings == ["finished"]


async def test_no_call_is_made_for_an_attempt_that_was_superseded(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    ledger.current.clear()
    model, fenced = ScriptedModel(), counted("usa_writes_fenced_total", write="open_call")

    with pytest.raises(LeaseLost):
        await pay(attempt, model)

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
    before = counted("usa_model_tokens_total", model=MODEL, kind="input")

    with pytest.raises(ValueError, match="not storable"):
        await pay(attempt, ScriptedModel())
    await attempt.bookings_done()

    assert (ledger.endings, ledger.checkpoints) == ([None], {})
    assert counted("usa_model_tokens_total", model=MODEL, kind="input") == before


async def test_tokens_and_costs_count_when_they_are_booked(
    attempt: RunningAttempt, ledger: MemoryLedger
) -> None:
    def figures() -> list[float]:
        return [
            counted("usa_model_tokens_total", model=MODEL, kind="input"),
            counted("usa_model_tokens_total", model=MODEL, kind="output"),
            counted("usa_model_cost_usd_total", model=MODEL),
            counted("usa_model_calls_total", model=MODEL, ending="finished"),
            counted("usa_model_call_seconds_count", model=MODEL),
        ]

    before = figures()
    # Every write is made twice, and nothing is counted twice.
    ledger.unheard = 1
    model = ScriptedModel(before_reply=lambda: setattr(ledger, "unheard", 1))

    await pay(attempt, model)

    added = [after - was for after, was in zip(figures(), before, strict=True)]
    assert added == pytest.approx([USED.input, USED.output, USED.total / 1000, 1, 1])
