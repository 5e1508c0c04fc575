"""The ledger: money spent is written down once, whoever owns the job by then."""

import asyncio
from decimal import Decimal

import pytest

from service.domain.usage import Usage
from service.postgres.usage_ledger import abandon_calls
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import a_checkpoint, a_closing, a_new_job, an_opening, an_owner
from tests.integration.postgres.steps import (
    accepted,
    assert_books_balance,
    claimed,
    day_of,
    expire_leases,
    finish_a_call,
    row_of,
    taken_over,
)

ALL_KINDS = Usage(input=100, output=20, cache_read=30, cache_write=4)


async def test_a_finished_call_is_booked_for_the_job_and_for_the_day(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    claim = await claimed(stores, owner=owner)
    await stores.ledger.open_call(an_opening(claim))

    current = await stores.ledger.close_call(
        a_closing(claim.fence, usage=ALL_KINDS, checkpoint=a_checkpoint())
    )

    assert current
    totals = await stores.ledger.totals(claim.fence.job_id)
    assert (totals.usage, totals.cost_usd) == (ALL_KINDS, Decimal("0.5"))
    assert (totals.calls, totals.models) == (1, ("claude",))
    day = await day_of(observer, owner)
    assert (day["input_tokens"], day["output_tokens"]) == (100, 20)
    assert (day["cache_read_tokens"], day["cache_write_tokens"]) == (30, 4)
    assert (day["cost_usd"], day["unpriced_calls"]) == (Decimal("0.5"), 0)
    await assert_books_balance(observer)


async def test_a_job_without_calls_has_cost_nothing(stores: Stores) -> None:
    totals = await stores.ledger.totals((await accepted(stores)).id)

    assert (totals.usage, totals.calls, totals.models) == (Usage(), 0, ())
    assert totals.cost_usd == 0


async def test_a_call_still_open_is_not_counted(stores: Stores, observer: Observer) -> None:
    claim = await claimed(stores)

    await stores.ledger.open_call(an_opening(claim))

    assert (await stores.ledger.totals(claim.fence.job_id)).calls == 0
    await assert_books_balance(observer)


async def test_a_checkpoint_reads_back_as_it_was_written(stores: Stores) -> None:
    claim = await claimed(stores)
    checkpoint = a_checkpoint(text='{"patches": ["ü \\\\ \\" "]}', usage=ALL_KINDS)
    await stores.ledger.open_call(an_opening(claim))

    await stores.ledger.close_call(a_closing(claim.fence, checkpoint=checkpoint))

    assert await stores.checkpoints(claim.fence.job_id) == {checkpoint.step: checkpoint}


async def test_used_tokens_move_out_of_the_reservation_but_never_below_nothing(
    stores: Stores, observer: Observer
) -> None:
    new = await stores.jobs.accept(a_new_job(reserved=150))
    claim = await claimed(stores, new.job.id)

    await finish_a_call(stores, claim, 1, step="a")
    after_one = (await row_of(observer, new.job.id))["reserved_tokens"]
    await finish_a_call(stores, claim, 2, step="b")

    assert after_one == 30
    assert (await row_of(observer, new.job.id))["reserved_tokens"] == 0


async def test_repeating_a_close_whose_answer_was_lost_changes_nothing(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    claim = await claimed(stores, owner=owner)
    await stores.ledger.open_call(an_opening(claim))
    closing = a_closing(claim.fence, checkpoint=a_checkpoint())
    await stores.ledger.close_call(closing)
    before = (await row_of(observer, claim.fence.job_id), await day_of(observer, owner))

    again = await stores.ledger.close_call(closing)

    assert again
    assert (await row_of(observer, claim.fence.job_id), await day_of(observer, owner)) == before
    await assert_books_balance(observer)


async def test_the_same_close_twice_in_one_batch_is_booked_once(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim))
    closing = a_closing(claim.fence, checkpoint=a_checkpoint())

    both = await asyncio.gather(*(stores.ledger.close_call(closing) for _ in range(2)))

    assert both == [True, True]
    assert (await row_of(observer, claim.fence.job_id))["reserved_tokens"] == 1000 - 120
    await assert_books_balance(observer)


async def test_of_two_closes_of_one_call_the_first_is_booked(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim))
    closings = [a_closing(claim.fence, usage=Usage(input=n)) for n in (7, 8, 9)]

    await asyncio.gather(*(stores.ledger.close_call(closing) for closing in closings[:2]))
    await stores.ledger.close_call(closings[2])

    assert (await stores.ledger.totals(claim.fence.job_id)).usage == Usage(input=7)
    assert (await row_of(observer, claim.fence.job_id))["reserved_tokens"] == 1000 - 7
    await assert_books_balance(observer)


async def test_a_stale_close_is_booked_but_its_checkpoint_is_not_kept(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    stale = await claimed(stores, owner=owner)
    await stores.ledger.open_call(an_opening(stale))
    current = await taken_over(stores, observer, stale)

    kept = await stores.ledger.close_call(a_closing(stale.fence, checkpoint=a_checkpoint()))

    assert not kept
    assert await stores.checkpoints(stale.fence.job_id) == {}
    assert (await stores.ledger.totals(stale.fence.job_id)).usage == Usage(100, 20)
    row = await row_of(observer, stale.fence.job_id)
    # The next attempt makes the call again, so what was put aside for it stays.
    assert (row["reserved_tokens"], row["crash_count"]) == (1000, 1)
    assert row["attempt"] == current.fence.attempt
    await assert_books_balance(observer)


async def test_a_close_after_the_job_was_cancelled_is_booked(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim))
    await stores.jobs.cancel_owned(claim.fence.job_id, "acme", None)

    kept = await stores.ledger.close_call(a_closing(claim.fence, ending="aborted"))

    assert not kept
    assert (await stores.ledger.totals(claim.fence.job_id)).calls == 1
    assert (await row_of(observer, claim.fence.job_id))["reserved_tokens"] == 0
    await assert_books_balance(observer)


async def test_a_call_cut_off_by_a_crash_is_booked_by_what_it_certainly_read(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim, expected=70, cost=Decimal("0.07")))

    await taken_over(stores, observer, claim)

    totals = await stores.ledger.totals(claim.fence.job_id)
    assert totals.usage == Usage(input=70, estimated=True)
    assert totals.cost_usd == Decimal("0.07")
    await assert_books_balance(observer)


@pytest.mark.parametrize("price", [Decimal("0.5"), None], ids=["priced", "unpriced"])
@pytest.mark.parametrize("expected", [Decimal("0.07"), None], ids=["estimated", "unknown"])
async def test_a_call_written_off_too_early_is_corrected_when_it_ends(
    stores: Stores, observer: Observer, price: Decimal | None, expected: Decimal | None
) -> None:
    owner = an_owner()
    claim = await claimed(stores, owner=owner)
    await stores.ledger.open_call(an_opening(claim, expected=70, cost=expected))
    await taken_over(stores, observer, claim)

    await stores.ledger.close_call(a_closing(claim.fence, usage=ALL_KINDS, cost=price))

    totals = await stores.ledger.totals(claim.fence.job_id)
    assert (totals.usage, totals.cost_usd) == (ALL_KINDS, price)
    assert (await day_of(observer, owner))["unpriced_calls"] == int(price is None)
    await assert_books_balance(observer)


async def test_a_close_that_waits_for_the_write_off_corrects_it(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim, expected=70))
    async with observer.transaction():
        await observer.run(_ABANDON)
        closing = asyncio.ensure_future(stores.ledger.close_call(a_closing(claim.fence)))
        await observer.somebody_waits_for_a_lock()

    await closing

    assert (await stores.ledger.totals(claim.fence.job_id)).usage == Usage(100, 20)
    await assert_books_balance(observer)


async def test_a_call_that_ended_is_not_written_off_afterwards(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await finish_a_call(stores, claim)

    await taken_over(stores, observer, claim)

    assert (await stores.ledger.totals(claim.fence.job_id)).usage == Usage(100, 20)
    await assert_books_balance(observer)


async def test_only_calls_of_earlier_attempts_are_written_off(stores: Stores) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim))

    assert await abandon_calls(stores.database, [claim.fence]) == 0
    assert await abandon_calls(stores.database, []) == 0


async def test_a_checkpoint_clears_the_suspicion_of_a_job(
    stores: Stores, observer: Observer
) -> None:
    claim = await taken_over(stores, observer, await claimed(stores))
    suspected = (await row_of(observer, claim.fence.job_id))["crash_count"]

    await finish_a_call(stores, claim)

    assert suspected == 1
    assert (await row_of(observer, claim.fence.job_id))["crash_count"] == 0


async def test_a_call_that_failed_does_not_clear_the_suspicion(
    stores: Stores, observer: Observer
) -> None:
    claim = await taken_over(stores, observer, await claimed(stores))
    await stores.ledger.open_call(an_opening(claim))

    await stores.ledger.close_call(a_closing(claim.fence, ending="failed"))

    assert (await row_of(observer, claim.fence.job_id))["crash_count"] == 1


async def test_only_the_current_attempt_may_open_a_call(stores: Stores, observer: Observer) -> None:
    stale = await claimed(stores)
    current = await taken_over(stores, observer, stale)

    assert not await stores.ledger.open_call(an_opening(stale))
    assert await stores.ledger.open_call(an_opening(current))
    assert await observer.value("SELECT count(*) FROM usage_records") == 1


async def test_opening_a_call_again_after_a_lost_answer_changes_nothing(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim))

    assert await stores.ledger.open_call(an_opening(claim))
    assert await observer.value("SELECT count(*) FROM usage_records") == 1


async def test_a_call_cannot_be_opened_behind_the_back_of_a_claim(
    stores: Stores, observer: Observer
) -> None:
    stale = await claimed(stores)
    async with observer.transaction():
        await observer.run("UPDATE jobs SET attempt = 2, worker_id = 'worker-2'")
        opening = asyncio.ensure_future(stores.ledger.open_call(an_opening(stale)))
        await observer.somebody_waits_for_a_lock()

    assert await opening is False
    assert await observer.value("SELECT count(*) FROM usage_records") == 0


async def test_costs_are_unknown_as_soon_as_one_price_is(stores: Stores) -> None:
    claim = await claimed(stores)
    for call, price in enumerate([Decimal("0.1"), None], start=1):
        await stores.ledger.open_call(an_opening(claim, call))
        await stores.ledger.close_call(a_closing(claim.fence, call, cost=price))

    totals = await stores.ledger.totals(claim.fence.job_id)

    assert (totals.calls, totals.cost_usd) == (2, None)


async def test_closing_a_call_that_was_never_opened_books_nothing(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)

    await stores.ledger.close_call(a_closing(claim.fence, 99))

    await assert_books_balance(observer)
    assert (await row_of(observer, claim.fence.job_id))["reserved_tokens"] == 1000


async def test_many_calls_of_many_users_at_once_are_all_booked(
    stores: Stores, observer: Observer
) -> None:
    owners = [an_owner() for _ in range(3)]
    claims = [await claimed(stores, owner=owners[n % 3]) for n in range(12)]

    async def call(number: int) -> None:
        claim = claims[number % 12]
        await finish_a_call(stores, claim, number, step=f"step-{number}")

    await asyncio.gather(*(call(number) for number in range(120)))

    await assert_books_balance(observer)
    days = [await day_of(observer, owner) for owner in owners]
    assert [day["input_tokens"] for day in days] == [4000] * 3


async def test_calls_left_open_by_ended_jobs_are_written_off_once(
    stores: Stores, observer: Observer
) -> None:
    ended, running = await claimed(stores), await claimed(stores)
    for claim in (ended, running):
        await stores.ledger.open_call(an_opening(claim, expected=70))
    await stores.jobs.cancel_owned(ended.fence.job_id, "acme", None)
    too_early = await stores.upkeep.write_off_calls(10)
    await observer.run("UPDATE jobs SET completed_at = completed_at - interval '11 seconds'")

    written_off = [await stores.upkeep.write_off_calls(10) for _ in range(2)]

    assert (too_early, written_off) == (0, [1, 0])
    assert (await stores.ledger.totals(ended.fence.job_id)).usage.input == 70
    assert (await stores.ledger.totals(running.fence.job_id)).calls == 0
    await assert_books_balance(observer)


async def test_calls_of_an_erased_job_are_written_off(stores: Stores, observer: Observer) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim))
    await observer.run("DELETE FROM jobs")

    assert await stores.upkeep.write_off_calls(10) == 1


async def test_a_job_lost_between_two_calls_is_billed_for_both_attempts(
    stores: Stores, observer: Observer
) -> None:
    first = await claimed(stores)
    await finish_a_call(stores, first, 1, step="a")
    await stores.ledger.open_call(an_opening(first, 2, step="b", expected=70))
    second = await taken_over(stores, observer, first)
    await finish_a_call(stores, second, 1, step="b")
    await expire_leases(observer)

    totals = await stores.ledger.totals(first.fence.job_id)

    assert (totals.calls, totals.usage.input, totals.usage.output) == (3, 270, 40)
    await assert_books_balance(observer)


_ABANDON = """
WITH closed AS (
  UPDATE usage_records SET ending = 'abandoned', closed_at = clock_timestamp(),
    input_tokens = expected_input_tokens, cost_usd = expected_cost_usd
  RETURNING *
)
INSERT INTO daily_usage AS d (tenant_id, user_id, day, input_tokens, cost_usd)
SELECT tenant_id, user_id, day, input_tokens, cost_usd FROM closed
ON CONFLICT (tenant_id, user_id, day) DO UPDATE SET
  input_tokens = d.input_tokens + excluded.input_tokens, cost_usd = d.cost_usd + excluded.cost_usd
"""
