"""What a user may have accepted is decided one submission after the other, however many come."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from service.domain.acceptance import LimitReached
from service.domain.errors import IdempotencyInFlight
from service.domain.job import NewJob, Owner
from service.domain.tiers import FREE, PRO, UNLIMITED, Tier
from service.domain.transitions import Postpone
from service.postgres.job_store import PostgresJobStore
from tests.fixtures.database import Observer, Stores, open_stores
from tests.fixtures.factories import a_delivery, a_new_job, an_owner, terms
from tests.integration.postgres.steps import claimed

AT_ONCE = 50


@pytest.fixture
async def processes(migrated_url: str) -> AsyncIterator[list[PostgresJobStore]]:
    """What three API processes accept through."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_stores(migrated_url)) for _ in range(3)]
        yield [each.jobs for each in opened]


async def outcomes(stores: list[PostgresJobStore], news: list[NewJob]) -> Counter[str]:
    """Accept all at once, in turn through each store, and count what became of them."""

    async def accept(place: int, new: NewJob) -> str:
        try:
            accepted = await stores[place % len(stores)].accept(new)
        except LimitReached as refusal:
            return refusal.code
        return "new" if accepted.is_new else "again"

    return Counter(await asyncio.gather(*(accept(*each) for each in enumerate(news))))


def of_one_user(tier: Tier, tokens: int = 1000) -> list[NewJob]:
    owner = an_owner()
    return [a_new_job(owner, tier=tier, reserved=tokens) for _ in range(AT_ONCE)]


@pytest.mark.parametrize(
    ("tier", "accepted", "code"),
    [
        (FREE, 1, "CONCURRENT_JOB_LIMIT"),
        (PRO, 3, "CONCURRENT_JOB_LIMIT"),
        (replace(UNLIMITED, requests_per_day=7), 7, "DAILY_QUOTA_EXCEEDED"),
        (replace(UNLIMITED, tokens_per_day=7999), 7, "DAILY_QUOTA_EXCEEDED"),
        (replace(UNLIMITED, tokens_per_day=8000), 8, "DAILY_QUOTA_EXCEEDED"),
    ],
)
async def test_of_fifty_at_once_through_three_processes_exactly_those_within_the_limit_are_accepted(
    processes: list[PostgresJobStore], observer: Observer, tier: Tier, accepted: int, code: str
) -> None:
    assert await outcomes(processes, of_one_user(tier)) == {"new": accepted, code: 50 - accepted}

    assert await observer.value("SELECT count(*) FROM jobs") == accepted
    assert await observer.value("SELECT sum(request_count) FROM daily_usage") == accepted


async def test_the_queue_takes_exactly_as_many_as_it_may_from_everybody_at_once(
    migrated_url: str, observer: Observer
) -> None:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_stores(migrated_url)) for _ in range(3)]
        bounded = [with_queue_limit(each, 7) for each in opened]

        counts = await outcomes(bounded, [a_new_job() for _ in range(AT_ONCE)])

    assert counts == {"new": 7, "QUEUE_FULL": 43}
    assert await observer.value("SELECT count(*) FROM jobs") == 7


async def test_the_queue_takes_no_more_than_it_may_through_many_processes(
    migrated_url: str, observer: Observer
) -> None:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_stores(migrated_url)) for _ in range(12)]
        bounded = [with_queue_limit(each, 1200) for each in opened]
        # Connections first, so that all of them begin together.
        await asyncio.gather(*(each.accept(a_new_job()) for each in bounded))

        await outcomes(bounded, [a_new_job() for _ in range(1800)])

    assert await observer.value("SELECT count(*) FROM jobs") == 1200


async def test_fifty_at_once_with_one_key_are_one_job_through_any_process(
    processes: list[PostgresJobStore], observer: Observer
) -> None:
    owner = an_owner()
    news = [a_new_job(owner, key="k", tier=FREE) for _ in range(AT_ONCE)]

    assert await outcomes(processes, news) == {"new": 1, "again": 49}

    assert await observer.value("SELECT count(*) FROM jobs") == 1
    assert await observer.value("SELECT request_count FROM daily_usage") == 1


async def test_users_who_come_together_do_not_use_up_each_others_limits(
    processes: list[PostgresJobStore],
) -> None:
    owners = [an_owner() for _ in range(10)]
    news = [a_new_job(owner, tier=FREE) for _ in range(5) for owner in owners]

    counts = await outcomes(processes, news)

    assert counts == {"new": 10, "CONCURRENT_JOB_LIMIT": 40}


async def test_a_refused_submission_leaves_its_key_free_and_writes_nothing(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    first = await stores.jobs.accept(a_new_job(owner, tier=FREE))
    with pytest.raises(LimitReached) as refusal:
        await stores.jobs.accept(a_new_job(owner, tier=FREE, key="k"))
    assert "wait until one ends, or cancel one" in str(refusal.value)
    assert await observer.value("SELECT count(*) FROM idempotency_keys") == 0

    await stores.jobs.cancel_owned(first.job.id, owner.tenant_id, owner.user_id)

    assert (await stores.jobs.accept(a_new_job(owner, tier=FREE, key="k"))).is_new


async def test_a_known_key_answers_with_its_job_when_no_limit_leaves_room(stores: Stores) -> None:
    owner = an_owner()
    used_up = replace(UNLIMITED, requests_per_day=1, tokens_per_day=1000, concurrent_jobs=1)
    first = await stores.jobs.accept(a_new_job(owner, key="k", tier=used_up))

    again = await with_queue_limit(stores, 1).accept(a_new_job(owner, key="k", tier=used_up))

    assert (again.is_new, again.job.id) == (False, first.job.id)


@pytest.mark.parametrize("end", ["cancelled", "claimed"])
async def test_a_job_counts_among_the_concurrent_ones_until_it_has_ended(
    stores: Stores, end: str
) -> None:
    owner = an_owner()
    job = (await stores.jobs.accept(a_new_job(owner, tier=FREE))).job
    if end == "claimed":
        await stores.attempts.claim([a_delivery(job.id)], terms())
        with pytest.raises(LimitReached):
            await stores.jobs.accept(a_new_job(owner, tier=FREE))
    await stores.jobs.cancel_owned(job.id, owner.tenant_id, owner.user_id)

    assert (await stores.jobs.accept(a_new_job(owner, tier=FREE))).is_new


async def test_tokens_count_as_used_or_as_reserved_but_never_as_both(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    tier = replace(UNLIMITED, tokens_per_day=10_000)
    await use_today(observer, owner, tokens=4000)
    first = await stores.jobs.accept(a_new_job(owner, tier=tier, reserved=6000))
    with pytest.raises(LimitReached) as refusal:
        await stores.jobs.accept(a_new_job(owner, tier=tier, reserved=1))
    assert "is expected to use 1 tokens; 10000 of the 10000" in str(refusal.value)

    await stores.jobs.cancel_owned(first.job.id, owner.tenant_id, owner.user_id)

    assert (await stores.jobs.accept(a_new_job(owner, tier=tier, reserved=6000))).is_new


async def test_what_was_used_or_reserved_on_another_day_does_not_count(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    tier = replace(UNLIMITED, tokens_per_day=1000, requests_per_day=1)
    await stores.jobs.accept(a_new_job(owner, tier=tier))
    await observer.run("UPDATE daily_usage SET day = day - 1")
    await observer.run("UPDATE jobs SET reserved_on = reserved_on - 1")

    assert (await stores.jobs.accept(a_new_job(owner, tier=tier))).is_new


async def test_a_daily_limit_says_that_it_ends_at_midnight(stores: Stores) -> None:
    owner = an_owner()
    tier = replace(UNLIMITED, requests_per_day=0)

    with pytest.raises(LimitReached) as refusal:
        await stores.jobs.accept(a_new_job(owner, tier=tier))

    assert 1 <= refusal.value.retry_after <= 86_400
    assert "midnight UTC" in str(refusal.value)


async def test_a_full_queue_is_open_again_when_jobs_are_claimed(stores: Stores) -> None:
    bounded = with_queue_limit(stores, 1)
    job = (await bounded.accept(a_new_job())).job
    with pytest.raises(LimitReached):
        await bounded.accept(a_new_job())

    await stores.attempts.claim([a_delivery(job.id)], terms())

    assert (await bounded.accept(a_new_job())).is_new


async def test_jobs_that_wait_for_new_tokens_do_not_fill_the_queue(
    stores: Stores, observer: Observer
) -> None:
    bounded = with_queue_limit(stores, 2)
    for _ in range(3):
        claim = await claimed(stores)
        await stores.attempts.record_if_current(claim.fence, Postpone(3600.0), None)

    assert await outcomes([bounded], [a_new_job() for _ in range(3)]) == {"new": 2, "QUEUE_FULL": 1}
    await observer.run("UPDATE jobs SET available_at = clock_timestamp()")
    assert await outcomes([bounded], [a_new_job()]) == {"QUEUE_FULL": 1}


async def test_who_waits_too_long_for_a_request_with_the_same_key_is_told_so(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    async with observer.transaction():
        await observer.run(_LOCK, owner.tenant_id, owner.user_id)
        with pytest.raises(IdempotencyInFlight):
            await stores.jobs.accept(a_new_job(owner, key="k"))

    assert (await stores.jobs.accept(a_new_job(owner, key="k"))).is_new


async def use_today(observer: Observer, owner: Owner, *, tokens: int) -> None:
    await observer.run(_USE, owner.tenant_id, owner.user_id, tokens)


def with_queue_limit(stores: Stores, limit: int) -> PostgresJobStore:
    return PostgresJobStore(
        stores.database,
        stores.attempts,
        stores.background,
        user_in_stream=10,
        queue_limit=limit,
    )


_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($2, hashtextextended($1, 1970238208)))"
_USE = """
INSERT INTO daily_usage (tenant_id, user_id, day, input_tokens, cache_read_tokens)
VALUES ($1, $2, (clock_timestamp() AT TIME ZONE 'UTC')::date, $3 / 2, $3 - $3 / 2)
"""
