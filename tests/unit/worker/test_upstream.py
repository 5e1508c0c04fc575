"""How one worker waits for its turns, settles them, and does without Redis."""

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from service.domain.errors import FailureKind, ModelFailure
from service.domain.events import EventType
from service.domain.upstream import Cost, Observed, Rates
from service.domain.usage import Usage
from service.supervision import Background
from service.worker.stopping import StopRequested
from service.worker.upstream import UpstreamGate, UpstreamTerms
from tests.fixtures.models import HeldModel, ScriptedModel, a_request
from tests.fixtures.upstream import MemoryBudget
from tests.fixtures.waiting import eventually
from tests.unit.worker.ledger import MemoryLedger
from tests.unit.worker.paying import Pedals, Told, an_attempt, counted, interrupted, pay

LIMITED = ScriptedModel(is_limited=True)
REQUEST = a_request("draft")
OBSERVED = Observed(limits=Rates(requests=50), remaining=Rates(requests=49))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again soon, however long the wait is said to be."""
    monkeypatch.setattr("service.worker.upstream._LONGEST_SLEEP", 0.01)


@pytest.fixture
def budget() -> MemoryBudget:
    return MemoryBudget()


@pytest.fixture
def gate(budget: MemoryBudget, background: Background) -> UpstreamGate:
    return UpstreamGate(budget, background, UpstreamTerms())


async def never_waits(_: float) -> None:
    raise AssertionError("it had to wait")


async def passes(
    gate: UpstreamGate,
    *,
    used: Usage = Usage(input=70, output=5),  # noqa: B008 - it cannot be changed
    failure: ModelFailure | None = None,
    while_waiting: Callable[[float], Any] = never_waits,
) -> None:
    """A whole call."""
    async with gate.turn(LIMITED, REQUEST, "acme/ann", while_waiting) as meter:
        meter.usage = used
        if failure is not None:
            raise failure


def overload(retry_after: float | None = None) -> ModelFailure:
    return ModelFailure(
        "MODEL_UNAVAILABLE",
        "too many",
        kind=FailureKind.TRANSIENT,
        retry_after=retry_after,
        is_overload=True,
    )


async def test_a_model_without_an_upstream_asks_nobody(
    gate: UpstreamGate, budget: MemoryBudget
) -> None:
    async with gate.turn(ScriptedModel(), REQUEST, "acme/ann", never_waits):
        pass
    assert budget.demands == []
    assert budget.settled == []


async def test_a_call_reserves_an_estimate_and_settles_what_it_took(
    gate: UpstreamGate, budget: MemoryBudget
) -> None:
    budget.limits = Rates(requests=50, input=30_000, output=8_000)
    await passes(gate, used=Usage(input=30, output=5, cache_read=40))
    (settled,) = await eventually(lambda: budget.settled)
    assert settled.reserved == budget.demands[0].cost == Cost(requests=1, input=70, output=10)
    assert settled.used == Cost(requests=1, input=30, output=5)
    assert settled.pause == 0
    assert budget.demands[0].user == "acme/ann"


async def test_a_call_gives_back_nothing_of_limits_that_were_not_known_when_it_passed(
    gate: UpstreamGate, budget: MemoryBudget
) -> None:
    budget.limits = Rates(input=30_000)
    await passes(gate, used=Usage(input=30, output=5, cache_read=40))
    (settled,) = await eventually(lambda: budget.settled)
    assert settled.reserved == Cost(input=70)
    assert settled.used == Cost(requests=1, input=30, output=5)


async def test_a_call_that_was_never_made_gives_everything_back(
    gate: UpstreamGate, budget: MemoryBudget
) -> None:
    with pytest.raises(ModelFailure):
        await passes(gate, used=Usage(), failure=ModelFailure("PROCESSING_ERROR", "refused"))
    (settled,) = await eventually(lambda: budget.settled)
    assert settled.used == Cost()


async def test_only_calls_that_finished_teach_what_to_expect(
    gate: UpstreamGate, budget: MemoryBudget
) -> None:
    with pytest.raises(ModelFailure):
        await passes(gate, used=Usage(input=1), failure=ModelFailure("PROCESSING_ERROR", "cut"))
    await passes(gate, used=Usage(input=7, output=5))
    await passes(gate)
    first, second, third = (demand.cost.input for demand in budget.demands)
    assert first == second == 70
    assert third < 70


@pytest.mark.parametrize(
    ("told", "pause"), [(None, 5.0), (0.0, 5.0), (17.0, 17.0), (3600.0, 300.0)]
)
async def test_an_overload_makes_everybody_pause(
    gate: UpstreamGate, budget: MemoryBudget, told: float | None, pause: float
) -> None:
    with pytest.raises(ModelFailure):
        await passes(gate, failure=overload(told))
    (settled,) = await eventually(lambda: budget.settled)
    assert settled.pause == pause


async def test_other_failures_make_nobody_pause(gate: UpstreamGate, budget: MemoryBudget) -> None:
    failure = ModelFailure("MODEL_UNAVAILABLE", "gone", kind=FailureKind.TRANSIENT, retry_after=9.0)
    with pytest.raises(ModelFailure):
        await passes(gate, failure=failure)
    (settled,) = await eventually(lambda: budget.settled)
    assert settled.pause == 0


async def test_a_call_asks_with_the_same_ticket_until_it_is_its_turn(
    gate: UpstreamGate, budget: MemoryBudget
) -> None:
    told: list[float] = []

    async def note(seconds: float) -> None:
        told.append(seconds)

    budget.waits = [0.02, 0.01]
    await passes(gate, while_waiting=note)
    assert told == [0.02, 0.01]
    assert len({demand.ticket for demand in budget.demands}) == 1
    assert budget.left == []


async def test_a_call_that_is_cancelled_while_it_waits_leaves_its_place(
    gate: UpstreamGate, budget: MemoryBudget
) -> None:
    async def wait(_: float) -> None:
        await asyncio.Event().wait()

    budget.waits = [60.0]
    waiting = asyncio.create_task(passes(gate, while_waiting=wait))
    await eventually(lambda: counted("usa_upstream_waiting") == 1)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert await eventually(lambda: budget.left) == [budget.demands[0].ticket]
    assert counted("usa_upstream_waiting") == 0
    assert budget.settled == []


async def test_a_wait_is_bounded_and_says_why_it_ended(
    budget: MemoryBudget, background: Background
) -> None:
    async def note(_: float) -> None:
        pass

    gate = UpstreamGate(budget, background, UpstreamTerms(max_wait=0.0))
    budget.waits = [42.0] * 100
    with pytest.raises(ModelFailure, match="no room for this call within 0 s") as caught:
        await passes(gate, while_waiting=note)
    assert caught.value.kind is FailureKind.TRANSIENT
    assert caught.value.retry_after == 42.0
    assert await eventually(lambda: budget.left) == [budget.demands[0].ticket]


async def test_what_an_answer_says_of_limits_is_passed_on_while_the_call_runs(
    gate: UpstreamGate, budget: MemoryBudget
) -> None:
    async with gate.turn(LIMITED, REQUEST, "acme/ann", never_waits) as meter:
        meter.observe(OBSERVED)
        assert await eventually(lambda: budget.observed) == [(REQUEST.model, OBSERVED)]


class TestWithoutRedis:
    """The share of what was known last, and never more than that."""

    async def test_one_of_several_workers_goes_on_with_its_share(
        self, gate: UpstreamGate, budget: MemoryBudget
    ) -> None:
        # Two calls at once for all, hence one in two minutes at once for each of two workers.
        budget.limits, budget.peers = Rates(requests=12), 2
        await passes(gate)
        budget.is_away = True
        await passes(gate)
        assert await _is_held_up(gate)

    async def test_a_worker_that_never_knew_the_limits_assumes_the_lowest(
        self, gate: UpstreamGate, budget: MemoryBudget
    ) -> None:
        budget.is_away = True
        await passes(gate)
        assert await _is_held_up(gate)

    async def test_a_worker_that_went_before_the_limits_were_known_assumes_the_lowest(
        self, gate: UpstreamGate, budget: MemoryBudget
    ) -> None:
        budget.limits = Rates()
        await passes(gate)
        budget.is_away = True
        await passes(gate)
        assert await _is_held_up(gate)

    async def test_a_configured_limit_holds_all_the_same(
        self, budget: MemoryBudget, background: Background
    ) -> None:
        gate = UpstreamGate(budget, background, UpstreamTerms(limits=Rates(input=60)))
        budget.is_away = True
        await passes(gate)
        assert await _is_held_up(gate)

    async def test_it_is_said_once_and_counted(
        self,
        gate: UpstreamGate,
        budget: MemoryBudget,
        logged: list[MutableMapping[str, Any]],
    ) -> None:
        budget.limits = Rates(requests=600)
        alone = counted("usa_upstream_turns_alone_total", model=REQUEST.model)
        lost = counted("usa_upstream_corrections_lost_total", what="settle")
        await passes(gate)
        await eventually(lambda: budget.settled)
        budget.is_away = True
        await passes(gate)
        await passes(gate)
        assert [each["event"] for each in logged].count("upstream_budget_away") == 1
        assert counted("usa_upstream_turns_alone_total", model=REQUEST.model) == alone + 2
        await eventually(
            lambda: counted("usa_upstream_corrections_lost_total", what="settle") == lost + 2
        )

    async def test_what_was_not_used_of_the_share_is_given_back(
        self, gate: UpstreamGate, budget: MemoryBudget
    ) -> None:
        budget.limits = Rates(input=600)
        await passes(gate)
        budget.is_away = True
        for _ in range(3):
            await passes(gate, used=Usage(input=1, output=1))

    async def test_redis_is_believed_again_as_soon_as_it_is_back(
        self, gate: UpstreamGate, budget: MemoryBudget
    ) -> None:
        budget.is_away = True
        await passes(gate)
        budget.is_away = False
        await passes(gate)
        await passes(gate)
        assert len(budget.demands) == 2


async def _is_held_up(gate: UpstreamGate) -> bool:
    class Held(Exception):
        pass

    async def hold(seconds: float) -> None:
        assert seconds > 0
        raise Held

    try:
        await passes(gate, while_waiting=hold)
    except Held:
        return True
    return False


class TestAnAttemptThatWaits:
    """What watchers see, and that nothing is opened before the turn has come."""

    async def test_watchers_are_told_until_when_once(
        self, ledger: MemoryLedger, background: Background
    ) -> None:
        budget = MemoryBudget(waits=[1.0, 0.9, 0.8, 0.01])
        attempt = an_attempt(ledger, background, budget=budget)
        await pay(attempt, LIMITED)
        told = attempt._events
        assert isinstance(told, Told)
        assert told.types == [EventType.WAITING]
        assert told.details == [{"reason": "upstream-budget", "until": "2026-11-24T12:00:01.000Z"}]

    async def test_a_short_wait_is_not_worth_telling(
        self, ledger: MemoryLedger, background: Background
    ) -> None:
        attempt = an_attempt(ledger, background, budget=MemoryBudget(waits=[0.05]))
        await pay(attempt, LIMITED)
        told = attempt._events
        assert isinstance(told, Told)
        assert told.types == []

    async def test_nothing_is_opened_before_its_turn_and_a_cancelled_wait_books_nothing(
        self, ledger: MemoryLedger, background: Background
    ) -> None:
        budget = MemoryBudget(waits=[60.0] * 100)
        attempt = an_attempt(ledger, background, budget=budget)
        await interrupted(pay(attempt, LIMITED), lambda: budget.demands)
        await attempt.bookings_done()
        assert ledger.rows == {}

    async def test_a_shutdown_does_not_wait_for_a_turn(
        self, ledger: MemoryLedger, background: Background, pedals: Pedals
    ) -> None:
        budget = MemoryBudget(waits=[0.05] * 1000)
        attempt = an_attempt(ledger, background, pedals, budget=budget)
        paying = asyncio.create_task(pay(attempt, LIMITED))
        await eventually(lambda: budget.demands)
        pedals.stop_at_next_call = True
        with pytest.raises(StopRequested):
            await paying
        assert await eventually(lambda: budget.left)

    async def test_a_lost_attempt_gives_its_turn_back(
        self, ledger: MemoryLedger, background: Background
    ) -> None:
        budget = MemoryBudget()
        attempt = an_attempt(ledger, background, budget=budget)
        model = HeldModel(is_limited=True)
        await interrupted(pay(attempt, model), model.at_work.is_set)
        (settled,) = await eventually(lambda: budget.settled)
        assert settled.used == Cost(requests=1, input=70, output=2)
