"""Batches lock rows in the order of their keys, jobs before user-days: no two can deadlock."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.domain.attempt import Claim, Fence
from service.domain.events import EventId
from service.domain.transitions import Complete
from service.postgres.usage_ledger import abandon_calls
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import a_closing, a_delivery, an_opening, terms
from tests.integration.postgres.steps import claimed, expire_leases

Act = Callable[[Stores, list[Claim]], Awaitable[object]]


def each(act: Callable[[Stores, Claim], Awaitable[object]]) -> Act:
    """Submit one item per job at once, so that they share a batch."""

    async def all_at_once(stores: Stores, claims: list[Claim]) -> object:
        return await asyncio.gather(*(act(stores, claim) for claim in claims))

    return all_at_once


ACTS: dict[str, Act] = {
    "claim": lambda s, claims: s.attempts.claim(
        [a_delivery(claim.fence.job_id) for claim in claims], terms("worker-2")
    ),
    "renew": lambda s, claims: s.leases.renew("worker-1", [c.fence for c in claims], 15.0),
    "recover": lambda s, claims: s.upkeep.recover_if_expired([c.fence for c in claims], 3),
    "record": each(
        lambda s, claim: s.attempts.record_if_current(
            claim.fence, Complete({"ok": 1}), EventId(1, 1)
        )
    ),
    "open": each(lambda s, claim: s.ledger.open_call(an_opening(claim, 2))),
    "abandon": lambda s, claims: abandon_calls(
        s.database, [Fence(claim.fence.job_id, 2) for claim in claims]
    ),
    "close": each(lambda s, claim: s.ledger.close_call(a_closing(claim.fence))),
    "mark": each(lambda s, claim: s.attempts.mark_entry(claim.fence, "1-0")),
    "unmark": lambda s, claims: s.upkeep.unmark_entries([(c.fence.job_id, "9-0") for c in claims]),
    "clear": each(
        lambda s, claim: s.attempts.clear_event_pending(claim.fence.job_id, EventId(1, 1))
    ),
    "redrive": lambda s, claims: s.dead_letters.redrive([c.fence.job_id for c in claims]),
}
PREPARATIONS = {
    "mark": "UPDATE jobs SET status = 'queued', lease_until = NULL, entry_id = NULL",
    "unmark": "UPDATE jobs SET status = 'queued', lease_until = NULL, entry_id = '9-0'",
    "clear": "UPDATE jobs SET event_pending = true, status = 'cancelled', final_event_id = '1-1',"
    " completed_at = clock_timestamp(), reserved_tokens = 0",
    "redrive": "UPDATE jobs SET status = 'failed', final_event_id = '1-1', error = '{}',"
    " completed_at = clock_timestamp(), reserved_tokens = 0",
}


@pytest.fixture
async def claims(stores: Stores, observer: Observer) -> list[Claim]:
    """Jobs in an order that is not that of their keys, with an open call each."""
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
