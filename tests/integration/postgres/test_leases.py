"""Renewing leases: only the owner's, however late, and without touching an index."""

import pytest

from service.domain.attempt import Fence
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import an_id
from tests.integration.postgres.steps import (
    claimed,
    completed,
    expire_leases,
    handed_back,
    row_of,
    seconds_between,
    taken_over,
)


async def test_a_renewal_lasts_for_one_lease_from_now(stores: Stores, observer: Observer) -> None:
    claim = await claimed(stores)

    kept = await stores.leases.renew("worker-1", [claim.fence], 7.0)

    assert kept == {claim.fence}
    lease_until = (await row_of(observer, claim.fence.job_id))["lease_until"]
    now = await observer.value("SELECT clock_timestamp()")
    assert seconds_between(now, lease_until) == pytest.approx(7.0, abs=0.5)


async def test_a_late_renewal_is_welcome_while_nobody_has_taken_the_job(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await expire_leases(observer, 1000.0)

    assert await stores.leases.renew("worker-1", [claim.fence], 15.0) == {claim.fence}


async def test_what_is_no_longer_this_workers_is_not_renewed(
    stores: Stores, observer: Observer
) -> None:
    mine, stale = await claimed(stores), await claimed(stores)
    current = await taken_over(stores, observer, stale)
    done, back = await completed(stores), await handed_back(stores)
    fences = [mine.fence, stale.fence, current.fence, done, back, Fence(an_id(), 1)]

    assert await stores.leases.renew("worker-1", fences, 15.0) == {mine.fence}


async def test_a_lost_job_that_was_queued_again_is_not_renewed(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await expire_leases(observer)
    await stores.upkeep.recover_if_expired([claim.fence], 3)

    assert await stores.leases.renew("worker-1", [claim.fence], 15.0) == set()


async def test_a_renewal_touches_no_index(stores: Stores, observer: Observer) -> None:
    claim = await claimed(stores)
    query = "SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'jobs'"
    async with stores.database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
    before = await observer.connection.fetchval(query)

    for _ in range(5):
        await stores.leases.renew("worker-1", [claim.fence], 15.0)

    async with stores.database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
    assert await observer.connection.fetchval(query) - before == 5
