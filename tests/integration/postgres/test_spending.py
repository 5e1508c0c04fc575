"""What is counted is what the ledger has booked: all of it, once, and what of it was wasted."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from uuid import uuid4

import pytest

from service.domain.attempt import Fence
from service.domain.usage import Usage
from service.ports.attempts import CallClosing
from service.telemetry.metrics import REGISTRY
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import a_checkpoint, a_closing, a_new_job, an_opening, an_owner
from tests.integration.postgres.steps import (
    assert_books_balance,
    claimed,
    day_of,
    finish_a_call,
    taken_over,
)

USED = Usage(input=100, output=20, cache_read=30, cache_write=4)
WHYS = ("abandoned", "aborted", "failed", "fenced")


def read(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Figures:
    """How far the counters have moved since; each test has a model of its own."""

    def __init__(self) -> None:
        self.model = f"model-{uuid4().hex[:8]}"
        self._before = {why: self._wasted(why) for why in WHYS}
        self._repeated = read("usa_model_calls_repeated_total")

    @property
    def tokens(self) -> dict[str, float]:
        kinds = ("input", "output", "cacheRead", "cacheWrite")
        return {kind: read("usa_model_tokens_total", model=self.model, kind=kind) for kind in kinds}

    @property
    def cost(self) -> float:
        return read("usa_model_cost_usd_total", model=self.model)

    @property
    def wasted(self) -> dict[str, float]:
        """Wasted tokens by why, where there are any."""
        moved = {why: self._wasted(why) - self._before[why] for why in WHYS}
        return {why: tokens for why, tokens in moved.items() if tokens}

    @property
    def repeated(self) -> float:
        return read("usa_model_calls_repeated_total") - self._repeated

    @staticmethod
    def _wasted(why: str) -> float:
        kinds = ("input", "output", "cacheRead", "cacheWrite")
        return sum(read("usa_model_tokens_wasted_total", kind=kind, why=why) for kind in kinds)

    def closing(
        self,
        fence: Fence,
        call: int = 1,
        *,
        usage: Usage = USED,
        ending: str = "finished",
        cost: Decimal | None = Decimal("0.5"),
    ) -> CallClosing:
        checkpoint = a_checkpoint(f"step-{call}") if ending == "finished" else None
        return a_closing(
            fence, call, usage=usage, ending=ending, cost=cost, checkpoint=checkpoint,
            model=self.model,
        )  # fmt: skip


@pytest.fixture
def figures() -> Figures:
    return Figures()


def as_json(usage: Usage) -> Mapping[str, float]:
    return usage.as_json()


async def test_a_booked_call_is_counted_once_however_often_its_close_is_repeated(
    stores: Stores, figures: Figures
) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim))
    closing = figures.closing(claim.fence)

    await asyncio.gather(*(stores.ledger.close_call(closing) for _ in range(3)))
    await stores.ledger.close_call(closing)

    assert figures.tokens == as_json(USED)
    assert (figures.cost, figures.wasted) == (0.5, {})


async def test_a_close_without_a_row_is_neither_booked_nor_counted(
    stores: Stores, observer: Observer, figures: Figures
) -> None:
    claim = await claimed(stores)

    await stores.ledger.close_call(figures.closing(claim.fence, ending="aborted"))

    assert set(figures.tokens.values()) == {0}
    assert figures.wasted == {}
    await assert_books_balance(observer)


async def test_a_booking_counts_although_nobody_waits_for_it_any_more(
    stores: Stores, figures: Figures
) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim))
    closing = asyncio.create_task(stores.ledger.close_call(figures.closing(claim.fence)))
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing})
    assert await stores.background.drain(10)

    assert figures.tokens == as_json(USED)


@pytest.mark.parametrize("ending", ["aborted", "failed"])
async def test_what_an_unfinished_call_has_used_is_wasted(
    stores: Stores, figures: Figures, ending: str
) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim))

    await stores.ledger.close_call(figures.closing(claim.fence, ending=ending))

    assert figures.wasted == {ending: USED.total}
    assert figures.tokens == as_json(USED)


async def test_what_a_fenced_call_has_used_is_wasted(
    stores: Stores, observer: Observer, figures: Figures
) -> None:
    stale = await claimed(stores)
    await stores.ledger.open_call(an_opening(stale, expected=0))
    await taken_over(stores, observer, stale)

    await stores.ledger.close_call(figures.closing(stale.fence))

    assert figures.wasted == {"fenced": USED.total}


@pytest.mark.parametrize(("expected", "corrected_by"), [(70, 30), (130, 0)])
async def test_a_call_written_off_too_early_counts_no_token_twice(
    stores: Stores, observer: Observer, figures: Figures, expected: int, corrected_by: int
) -> None:
    claim = await claimed(stores)
    opening = an_opening(claim, expected=expected, cost=Decimal("0.7"))
    await stores.ledger.open_call(opening)
    await observer.run("UPDATE usage_records SET model = $1", figures.model)
    await taken_over(stores, observer, claim)
    assert (figures.wasted, figures.cost) == ({"abandoned": expected}, 0.7)

    await stores.ledger.close_call(figures.closing(claim.fence, usage=Usage(input=100)))

    # The ledger is corrected downwards as well; a counter cannot be.
    assert figures.tokens["input"] == expected + corrected_by
    wasted = {"abandoned": float(expected), "fenced": float(corrected_by)}
    assert figures.wasted == {why: tokens for why, tokens in wasted.items() if tokens}
    assert figures.cost == 0.7
    assert (await stores.ledger.totals(claim.fence.job_id)).cost_usd == Decimal("0.5")
    await assert_books_balance(observer)


async def test_a_call_that_is_paid_again_counts_once_and_only_if_it_was_paid(
    stores: Stores, observer: Observer, figures: Figures
) -> None:
    first = await claimed(stores)
    for call, step in enumerate(("lost", "free", "tried", "kept"), start=1):
        await stores.ledger.open_call(an_opening(first, call, step=step, expected=10))
    await stores.ledger.close_call(figures.closing(first.fence, 2, ending="aborted", usage=Usage()))
    await stores.ledger.close_call(figures.closing(first.fence, 3, ending="failed"))
    await stores.ledger.close_call(figures.closing(first.fence, 4))
    assert figures.repeated == 0

    second = await taken_over(stores, observer, first)
    assert figures.repeated == 0
    again = an_opening(second, 1, step="lost")
    await asyncio.gather(*(stores.ledger.open_call(again) for _ in range(3)))
    await stores.ledger.open_call(again)
    for call, step in enumerate(("free", "tried", "new"), start=2):
        await stores.ledger.open_call(an_opening(second, call, step=step))

    assert figures.repeated == 1


async def test_a_finished_call_that_was_fenced_is_paid_again(
    stores: Stores, observer: Observer, figures: Figures
) -> None:
    zombie = await claimed(stores)
    await stores.ledger.open_call(an_opening(zombie, expected=0))
    current = await taken_over(stores, observer, zombie)
    await stores.ledger.close_call(figures.closing(zombie.fence))

    await stores.ledger.open_call(an_opening(current))

    assert figures.repeated == 1


async def test_an_opening_that_is_fenced_counts_nothing(
    stores: Stores, observer: Observer, figures: Figures
) -> None:
    zombie = await claimed(stores)
    await stores.ledger.open_call(an_opening(zombie))
    await taken_over(stores, observer, zombie)

    assert not await stores.ledger.open_call(an_opening(zombie, 2))

    assert figures.repeated == 0


async def test_parts_of_a_hundred_millionth_add_up_for_the_day_as_in_the_ledger(
    stores: Stores, observer: Observer, figures: Figures
) -> None:
    owner = an_owner()
    claims = [await claimed(stores, owner=owner) for _ in range(5)]
    for claim in claims:
        await stores.ledger.open_call(an_opening(claim, cost=Decimal("0.000000013")))
    await stores.ledger.open_call(an_opening(claims[0], 2, cost=Decimal("0.000000013")))
    price = Decimal("0.000000004")

    closings = [figures.closing(claim.fence, cost=price) for claim in claims]
    await asyncio.gather(*map(stores.ledger.close_call, closings))
    await taken_over(stores, observer, claims[0])
    await stores.ledger.close_call(figures.closing(claims[0].fence, 2, cost=Decimal("0.000000016")))

    await assert_books_balance(observer)
    assert (await day_of(observer, owner))["cost_usd"] == Decimal("0.00000002")


async def test_what_a_purged_job_has_cost_stays_in_the_books(
    stores: Stores, observer: Observer
) -> None:
    new = await stores.jobs.accept(a_new_job())
    claim = await claimed(stores, new.job.id)
    await finish_a_call(stores, claim)
    await stores.ledger.open_call(an_opening(claim, 2, expected=70))
    await stores.jobs.cancel_owned(new.job.id, "acme", None)
    before = await day_of(observer, new.job.owner)

    await stores.jobs.purge_owned(new.job.id, "acme", new.job.owner.user_id)

    assert await day_of(observer, new.job.owner) == before
    # What was under way when the job was erased is booked by whoever comes first, and once.
    assert not await stores.ledger.close_call(a_closing(claim.fence, 2, usage=USED))
    assert await stores.upkeep.write_off_calls(10) == 0
    totals = await stores.ledger.totals(new.job.id)
    assert (totals.calls, totals.usage.input) == (2, 100 + USED.input)
