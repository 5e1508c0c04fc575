"""Batches lock rows in the order of their keys, jobs before user-days: no two can deadlock."""

import asyncio

import pytest

from service.domain.attempt import Claim
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import an_opening
from tests.integration.postgres.acts import ACTS, PREPARATIONS
from tests.integration.postgres.steps import claimed, expire_leases

# Plans that come across the rows in any order but that of their keys, unless they are told to sort.
_WITHOUT_INDEXES = """
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET enable_mergejoin = off', current_database());
  EXECUTE format('ALTER DATABASE %I SET enable_indexscan = off', current_database());
  EXECUTE format('ALTER DATABASE %I SET enable_bitmapscan = off', current_database());
  EXECUTE format('ALTER DATABASE %I SET enable_sort = off', current_database());
END $$
"""


@pytest.fixture
async def claims(stores: Stores, observer: Observer) -> list[Claim]:
    """Jobs in an order that is not that of their keys, with an open call each."""
    await observer.run(_WITHOUT_INDEXES)
    found = [await claimed(stores) for _ in range(6)]
    for claim in found:
        await stores.ledger.open_call(an_opening(claim))
    await expire_leases(observer)
    backwards = sorted(found, key=lambda claim: claim.fence, reverse=True)
    for claim in backwards:  # a scan of the tables meets them in this order, too
        job_id = claim.fence.job_id
        await observer.run("UPDATE jobs SET request_id = 'last' WHERE id = $1", job_id)
        await observer.run("UPDATE usage_records SET step = 'last' WHERE job_id = $1", job_id)
    return backwards


@pytest.mark.parametrize("what", sorted(ACTS.keys() - {"abandon"}))
async def test_jobs_are_locked_in_the_order_of_their_keys(
    stores: Stores, observer: Observer, claims: list[Claim], what: str
) -> None:
    if what in PREPARATIONS:
        await observer.run(PREPARATIONS[what])
    async with observer.transaction():
        await observer.run("SELECT FROM jobs WHERE id = $1 FOR UPDATE", claims[-1].fence.job_id)
        acting = asyncio.ensure_future(ACTS[what](stores, claims))
        await observer.somebody_waits_for_a_lock()

        free = await observer.connection.fetch("SELECT id FROM jobs FOR UPDATE SKIP LOCKED")
        days = await observer.connection.fetch("SELECT FROM daily_usage FOR UPDATE SKIP LOCKED")

    await acting
    assert len(free) == len(claims)
    assert len(days) == len(claims)


@pytest.mark.parametrize("what", ["close", "abandon"])
async def test_calls_are_locked_in_the_order_of_their_keys(
    stores: Stores, observer: Observer, claims: list[Claim], what: str
) -> None:
    async with observer.transaction():
        await observer.run(
            "SELECT FROM usage_records WHERE job_id = $1 FOR UPDATE", claims[-1].fence.job_id
        )
        acting = asyncio.ensure_future(ACTS[what](stores, claims))
        await observer.somebody_waits_for_a_lock()

        free = await observer.connection.fetch("SELECT FROM usage_records FOR UPDATE SKIP LOCKED")
        days = await observer.connection.fetch("SELECT FROM daily_usage FOR UPDATE SKIP LOCKED")

    await acting
    assert len(free) == len(claims)
    assert len(days) == len(claims)


@pytest.mark.parametrize("what", ["close", "abandon"])
async def test_user_days_are_locked_in_the_order_of_their_keys(
    stores: Stores, observer: Observer, claims: list[Claim], what: str
) -> None:
    async with observer.transaction():
        await observer.run(
            "SELECT FROM daily_usage ORDER BY tenant_id, user_id, day LIMIT 1 FOR UPDATE"
        )
        acting = asyncio.ensure_future(ACTS[what](stores, claims))
        await observer.somebody_waits_for_a_lock()

        free = await observer.connection.fetch("SELECT FROM daily_usage FOR UPDATE SKIP LOCKED")

    await acting
    assert len(free) == len(claims)
