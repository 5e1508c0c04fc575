"""What an owner has used: of this owner only, of each day, and as the books say."""

from datetime import date, timedelta
from decimal import Decimal

from service.domain.job import Owner
from service.domain.usage import Usage
from service.ports.usage import DayUsage
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import a_closing, an_opening, an_owner
from tests.integration.postgres.steps import accepted, claimed, completed, finish_a_call

EVERYBODY = None


async def _today(observer: Observer) -> date:
    day = await observer.value("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
    assert isinstance(day, date)
    return day


async def _used(observer: Observer, owner: Owner, day: date, tokens: int) -> None:
    """A day on which somebody used something."""
    await observer.run(
        "INSERT INTO daily_usage (tenant_id, user_id, day, request_count, input_tokens,"
        " output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, unpriced_calls)"
        " VALUES ($1, $2, $3, 1, $4, 2, 3, 4, 0.5, 1)",
        owner.tenant_id,
        owner.user_id,
        day,
        tokens,
    )


async def test_who_has_used_nothing_reads_zeros(stores: Stores, observer: Observer) -> None:
    used = await stores.usage.today("acme", "nobody")
    assert used.day == await _today(observer)
    assert (used.requests, used.usage, used.cost_usd) == (0, Usage(), Decimal(0))
    assert (used.unpriced_calls, used.reserved_tokens, used.active_jobs) == (0, 0, 0)


async def test_tokens_move_from_reserved_to_used_with_each_call(stores: Stores) -> None:
    owner = an_owner()
    claim = await claimed(stores, owner=owner)  # reserves 1000
    await finish_a_call(stores, claim)  # uses 100 and 20

    used = await stores.usage.today(owner.tenant_id, owner.user_id)

    assert (used.requests, used.active_jobs) == (1, 1)
    assert (used.usage, used.cost_usd) == (Usage(100, 20), Decimal("0.5"))
    assert used.reserved_tokens == 1000 - 120


async def test_a_job_that_has_ended_reserves_nothing(stores: Stores) -> None:
    owner = an_owner()
    await completed(stores, owner)
    await accepted(stores, owner, reserved=70)

    used = await stores.usage.today(owner.tenant_id, owner.user_id)

    assert (used.requests, used.active_jobs, used.reserved_tokens) == (2, 1, 70)


async def test_what_was_reserved_on_another_day_is_not_todays(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    job = await accepted(stores, owner)
    await observer.run("UPDATE jobs SET reserved_on = reserved_on - 1 WHERE id = $1", job.id)

    used = await stores.usage.today(owner.tenant_id, owner.user_id)

    assert (used.active_jobs, used.reserved_tokens) == (1, 0)


async def test_a_call_without_a_price_is_counted_apart(stores: Stores) -> None:
    owner = an_owner()
    claim = await claimed(stores, owner=owner)
    await stores.ledger.open_call(an_opening(claim, cost=None))
    await stores.ledger.close_call(a_closing(claim.fence, cost=None))

    used = await stores.usage.today(owner.tenant_id, owner.user_id)

    assert (used.cost_usd, used.unpriced_calls) == (Decimal(0), 1)
    assert used.usage.total == 120


async def test_others_of_the_tenant_count_for_the_tenant_only(stores: Stores) -> None:
    ann, bob, stranger = an_owner(), an_owner(), an_owner("rival")
    for owner in (ann, bob, stranger):
        claim = await claimed(stores, owner=owner)
        await finish_a_call(stores, claim)

    own = await stores.usage.today("acme", ann.user_id)
    whole = await stores.usage.today("acme", EVERYBODY)

    assert (own.requests, own.usage.total, own.active_jobs) == (1, 120, 1)
    assert (whole.requests, whole.usage.total, whole.active_jobs) == (2, 240, 2)
    assert whole.reserved_tokens == 2 * own.reserved_tokens
    assert (await stores.usage.today("rival", ann.user_id)).requests == 0


async def test_every_day_has_its_entry_newest_first(stores: Stores, observer: Observer) -> None:
    ann, bob, stranger = Owner("acme", "ann"), Owner("acme", "bob"), Owner("rival", "ann")
    today = await _today(observer)
    for owner in (ann, bob, stranger):
        await _used(observer, owner, today - timedelta(days=2), 100)
    await _used(observer, ann, today, 7)
    await _used(observer, ann, today - timedelta(days=3), 9)

    own = await stores.usage.daily("acme", "ann", 3)
    whole = await stores.usage.daily("acme", EVERYBODY, 4)

    assert [day.day for day in own] == [today - timedelta(days=back) for back in range(3)]
    assert [day.requests for day in own] == [1, 0, 1]
    assert own[1] == DayUsage(
        day=own[1].day, requests=0, usage=Usage(), cost_usd=Decimal(0), unpriced_calls=0
    )
    assert own[2].usage == Usage(100, 2, 3, 4)
    assert (own[2].cost_usd, own[2].unpriced_calls) == (Decimal("0.5"), 1)
    assert [day.usage.input for day in whole] == [7, 0, 200, 9]
    assert (whole[2].requests, whole[2].cost_usd, whole[2].unpriced_calls) == (2, Decimal(1), 2)
