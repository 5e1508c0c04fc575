"""Workers, cancellers, redrivers and maintenance at once: nothing is lost or doubled."""

import asyncio
import random
from contextlib import AsyncExitStack
from uuid import UUID

import pytest

from service.domain.attempt import Claim, Verdict
from service.domain.errors import JobFinished
from service.domain.events import EventId
from service.domain.job import JobStatus, Owner
from service.domain.transitions import Complete, Fail, HandBack, Retry, Transition
from service.postgres import pool
from tests.fixtures.database import Observer, Stores, open_stores
from tests.fixtures.factories import (
    a_checkpoint,
    a_closing,
    a_delivery,
    a_new_job,
    an_opening,
    an_owner,
    terms,
)
from tests.integration.postgres.steps import assert_books_balance

WORKERS, JOBS, ROUNDS = 4, 8, 25
RETRY = Retry(0.0, "MODEL_UNAVAILABLE", "busy")


async def work(stores: Stores, worker_id: str, jobs: list[UUID], chance: random.Random) -> None:
    """Claim some jobs, make calls for those that were got, end them somehow or fall silent."""
    for _ in range(ROUNDS):
        deliveries = [a_delivery(job_id) for job_id in chance.sample(jobs, 4)]
        under = terms(worker_id, lease=0.02, max_crashes=1000, suspects_allowed=4)
        claims = await stores.attempts.claim(deliveries, under)
        mine = [claim for claim in claims if claim.verdict is Verdict.CLAIMED]
        await asyncio.gather(*(attempt(stores, claim, chance) for claim in mine))


async def attempt(stores: Stores, claim: Claim, chance: random.Random) -> None:
    """One attempt, which may be fenced at any moment."""
    for call in range(1, 3):
        if not await stores.ledger.open_call(an_opening(claim, call)):
            return
        if chance.random() < 0.2:  # killed during the call
            return
        checkpoint = a_checkpoint(f"step-{call}") if chance.random() < 0.7 else None
        await stores.ledger.close_call(a_closing(claim.fence, call, checkpoint=checkpoint))
    endings: list[Transition] = [RETRY, RETRY, HandBack(), HandBack(), Complete({"ok": 1})]
    ending = chance.choice([*endings, Fail("MODEL_REFUSED", "no")])
    is_final = isinstance(ending, Complete | Fail)
    final = EventId(claim.fence.attempt, 3) if is_final else None
    recorded = await stores.attempts.record_if_current(claim.fence, ending, final)
    if recorded.applied and not is_final:
        await stores.attempts.mark_entry(claim.fence, "1-0")


async def cancel(stores: Stores, owner: Owner, jobs: list[UUID], chance: random.Random) -> None:
    """Cancel a few of the jobs, one after the other."""
    for job_id in chance.sample(jobs, 3):
        for _ in range(20):  # the others get ahead
            await stores.attempts.read_fences(jobs)
        try:
            await stores.jobs.cancel_owned(job_id, owner.tenant_id, owner.user_id)
        except JobFinished:
            continue


async def redrive(stores: Stores, jobs: list[UUID]) -> None:
    """Queue again whatever has failed, over and over, by its code or by its name."""
    for _ in range(ROUNDS):
        await stores.dead_letters.redrive_code("MODEL_REFUSED", 2)
        await stores.dead_letters.redrive(jobs)


async def maintain(stores: Stores) -> None:
    """Relay and repair, over and over."""
    for _ in range(ROUNDS):
        await stores.upkeep.take_relay_batch(10, 10)
        lost = await stores.upkeep.expired_leases(0.01, 10)
        await stores.upkeep.recover_if_expired([each.fence for each in lost], 1000)
        suspects = await stores.upkeep.suspect_entries(
            started=True, last_delivered=(1, 0), span=None, limit=10
        )
        entries = [(each.fence.job_id, each.entry_id) for each in suspects]
        await stores.upkeep.unmark_entries(entries)
        await stores.upkeep.write_off_calls(10)


@pytest.mark.parametrize("seed", range(4))
async def test_the_books_balance_whoever_wins(
    stores: Stores,
    observer: Observer,
    migrated_url: str,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    monkeypatch.setattr(pool, "_MOST_RUNS", 1)  # a deadlock shows instead of being run again
    chance = random.Random(seed)  # noqa: S311 - a run that can be repeated
    owner = an_owner()
    jobs = [(await stores.jobs.accept(a_new_job(owner))).job.id for _ in range(JOBS)]

    async with AsyncExitStack() as stack:
        own = [await stack.enter_async_context(open_stores(migrated_url)) for _ in range(WORKERS)]
        await asyncio.gather(
            *(work(each, f"worker-{n}", jobs, chance) for n, each in enumerate(own)),
            *(maintain(each) for each in own[:2]),
            cancel(stores, owner, jobs, chance),
            redrive(stores, jobs),
        )

    await assert_books_balance(observer)
    rows = await observer.connection.fetch("SELECT * FROM jobs")
    assert len(rows) == JOBS
    for row in rows:
        events = [row["final_event_id"], row["completed_at"]]
        is_terminal = JobStatus(row["status"]).is_terminal
        assert [each is not None for each in events] == [is_terminal] * 2
    assert any(row["attempt"] > 3 for row in rows), "nobody ever took a job over"
