"""Every guarded batch, as something that can be done to claimed jobs."""

import asyncio
from collections.abc import Awaitable, Callable

from service.domain.attempt import Claim, Fence
from service.domain.events import EventId
from service.domain.transitions import Complete
from service.postgres.usage_ledger import abandon_calls
from tests.fixtures.database import Stores
from tests.fixtures.factories import a_closing, a_delivery, an_opening, terms

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
# What some need of the rows before.
PREPARATIONS = {
    "mark": "UPDATE jobs SET status = 'queued', lease_until = NULL, entry_id = NULL",
    "unmark": "UPDATE jobs SET status = 'queued', lease_until = NULL, entry_id = '9-0'",
    "clear": "UPDATE jobs SET event_pending = true, status = 'cancelled', final_event_id = '1-1',"
    " completed_at = clock_timestamp(), reserved_tokens = 0",
    "redrive": "UPDATE jobs SET status = 'failed', final_event_id = '1-1', error = '{}',"
    " completed_at = clock_timestamp(), reserved_tokens = 0",
}
