"""Claiming: one verdict per delivery, and never two attempts of a job at once."""

import asyncio
from uuid import UUID

import pytest

from service.domain.attempt import Claim, Delivery, Verdict
from service.domain.events import EventId
from service.domain.job import JobStatus
from service.domain.transitions import Fail
from service.ports.attempts import ClaimTerms
from service.postgres import pool
from tests.fixtures.database import Observer, Stores, open_stores
from tests.fixtures.factories import a_delivery, an_id, an_opening, terms
from tests.integration.postgres.steps import (
    LONG,
    accepted,
    claimed,
    completed,
    expire_leases,
    finish_a_call,
    retried,
    row_of,
    seconds_between,
)


async def judge(
    stores: Stores, job_id: UUID, entry_id: str | None = None, under: ClaimTerms | None = None
) -> Claim:
    """The verdict on one delivery, for another worker than the one that runs the job."""
    (claim,) = await stores.attempts.claim(
        [a_delivery(job_id, entry_id)], under or terms("worker-2")
    )
    return claim


async def test_a_due_queued_job_starts_its_next_attempt(stores: Stores, observer: Observer) -> None:
    job = await accepted(stores)

    claim = await judge(stores, job.id, "5-0", terms("worker-1", lease=15.0))

    assert claim.verdict is Verdict.CLAIMED
    assert claim.job is not None
    assert (claim.job.status, claim.job.attempt) == (JobStatus.PROCESSING, 1)
    assert claim.checkpoints == {}
    row = await row_of(observer, job.id)
    assert (row["worker_id"], row["entry_id"], row["crash_count"]) == ("worker-1", "5-0", 0)
    assert seconds_between(row["started_at"], row["lease_until"]) == pytest.approx(15, abs=0.1)


async def test_every_delivery_of_a_batch_has_its_own_verdict_in_order(stores: Stores) -> None:
    done, fresh = await completed(stores), await accepted(stores)
    waiting, running = await retried(stores, 60.0), await claimed(stores)
    ids = [done.job_id, fresh.id, an_id(), waiting.job_id, running.fence.job_id]

    claims = await stores.attempts.claim([a_delivery(each) for each in ids], terms("worker-2"))

    assert [claim.delivery.job_id for claim in claims] == ids
    assert [claim.verdict for claim in claims] == [
        Verdict.TERMINAL,
        Verdict.CLAIMED,
        Verdict.MISSING,
        Verdict.NOT_DUE,
        Verdict.LEASED_THROUGH_ANOTHER_ENTRY,
    ]


async def test_no_deliveries_have_no_verdicts(stores: Stores) -> None:
    assert await stores.attempts.claim([], terms()) == []


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled"])
async def test_an_ended_job_is_never_started_again(
    stores: Stores, observer: Observer, how: str
) -> None:
    claim = await claimed(stores)
    job_id = claim.fence.job_id
    if how == "cancelled":
        await stores.jobs.cancel_owned(job_id, "acme", None)
    elif how == "failed":
        failure = Fail("MODEL_REFUSED", "no")
        await stores.attempts.record_if_current(claim.fence, failure, EventId(1, 2))
    else:
        job_id = (await completed(stores)).job_id
    before = await row_of(observer, job_id)

    judged = await judge(stores, job_id)

    assert judged.verdict is Verdict.TERMINAL
    assert await row_of(observer, job_id) == before


async def test_a_live_lease_is_respected_and_names_its_entry(
    stores: Stores, observer: Observer
) -> None:
    job = await accepted(stores)
    await judge(stores, job.id, "5-0", terms("worker-1", lease=LONG))
    before = await row_of(observer, job.id)

    same = await judge(stores, job.id, "5-0")
    other = await judge(stores, job.id, "6-0")

    assert same.verdict is Verdict.LEASED
    assert other.verdict is Verdict.LEASED_THROUGH_ANOTHER_ENTRY
    assert await row_of(observer, job.id) == before


async def test_an_expired_lease_is_taken_over_and_counts_as_a_crash(
    stores: Stores, observer: Observer
) -> None:
    first = await claimed(stores)
    await expire_leases(observer, 0.0)

    claim = await judge(stores, first.fence.job_id, "9-0")

    assert claim.verdict is Verdict.CLAIMED
    assert claim.job is not None
    assert first.job is not None
    assert (claim.job.attempt, claim.job.crash_count) == (2, 1)
    assert claim.job.started_at == first.job.started_at
    row = await row_of(observer, first.fence.job_id)
    assert (row["worker_id"], row["entry_id"]) == ("worker-2", "9-0")


async def test_no_lease_counts_as_expired_within_one_lease_of_the_servers_start(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await expire_leases(observer)
    longer_than_the_server_is_up = terms("worker-2", lease=86_400.0 * 365)

    judged = await judge(
        stores, claim.fence.job_id, claim.delivery.entry_id, longer_than_the_server_is_up
    )

    assert judged.verdict is Verdict.LEASED


async def test_a_worker_whose_claim_was_not_answered_claims_again_free_of_charge(
    stores: Stores, observer: Observer
) -> None:
    lost = await claimed(stores, under=terms("worker-1", lease=LONG))

    claim = await judge(stores, lost.fence.job_id, under=terms("worker-1", lease=LONG))

    assert claim.verdict is Verdict.CLAIMED
    assert claim.job is not None
    assert (claim.job.attempt, claim.job.crash_count) == (2, 0)


async def test_the_last_crash_of_the_budget_fails_the_job(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    for worker_id in ("worker-2", "worker-3"):
        await expire_leases(observer)
        await judge(stores, claim.fence.job_id, under=terms(worker_id))
    await expire_leases(observer)

    judged = await judge(stores, claim.fence.job_id, under=terms("worker-9"))

    assert judged.verdict is Verdict.FAILED
    assert judged.job is not None
    assert judged.job.error is not None
    assert judged.job.error["code"] == "WORKER_LOST"
    assert (judged.job.status, judged.job.attempt) == (JobStatus.FAILED, 4)
    assert (judged.job.crash_count, judged.job.final_event_id) == (3, "4-1")
    row = await row_of(observer, claim.fence.job_id)
    assert (row["event_pending"], row["reserved_tokens"], row["lease_until"]) == (True, 0, None)


@pytest.mark.parametrize("expired", [False, True], ids=["queued", "lease expired"])
async def test_a_job_past_its_deadline_fails_instead_of_starting(
    stores: Stores, observer: Observer, *, expired: bool
) -> None:
    job = await accepted(stores)
    if expired:
        await claimed(stores, job.id)
        await expire_leases(observer)
    await observer.run("UPDATE jobs SET deadline_at = clock_timestamp()")

    judged = await judge(stores, job.id)

    assert judged.verdict is Verdict.FAILED
    assert judged.job is not None
    assert judged.job.error is not None
    assert judged.job.error["code"] == "DEADLINE_EXCEEDED"
    assert judged.job.final_event_id == ("2-1" if expired else "1-1")
    assert (await row_of(observer, job.id))["reserved_tokens"] == 0


async def test_a_live_worker_ends_its_job_at_the_deadline_itself(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await observer.run("UPDATE jobs SET deadline_at = clock_timestamp()")

    judged = await judge(stores, claim.fence.job_id, claim.delivery.entry_id)

    assert judged.verdict is Verdict.LEASED


async def test_a_process_gets_at_most_as_many_suspects_as_it_allows(
    stores: Stores, observer: Observer
) -> None:
    suspects = [await claimed(stores) for _ in range(3)]
    await expire_leases(observer)
    harmless = await accepted(stores)
    deliveries = [a_delivery(s.fence.job_id) for s in suspects] + [a_delivery(harmless.id)]

    claims = await stores.attempts.claim(deliveries, terms("worker-2", suspects_allowed=1))

    verdicts = [claim.verdict for claim in claims]
    assert sorted(verdicts[:3]) == [Verdict.CLAIMED, Verdict.SUSPECT_HELD, Verdict.SUSPECT_HELD]
    assert verdicts[3] is Verdict.CLAIMED
    counts = "SELECT count(*) FROM jobs WHERE crash_count = 1 AND attempt = 2"
    assert await observer.value(counts) == 1


async def test_a_queued_job_that_crashed_before_is_a_suspect_too(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await expire_leases(observer)
    await stores.upkeep.recover_if_expired([claim.fence], 3)

    held = await judge(stores, claim.fence.job_id, under=terms("worker-2", suspects_allowed=0))
    taken = await judge(stores, claim.fence.job_id, under=terms("worker-2", suspects_allowed=1))

    assert (held.verdict, taken.verdict) == (Verdict.SUSPECT_HELD, Verdict.CLAIMED)


async def test_two_entries_of_one_job_in_a_batch_start_it_once(stores: Stores) -> None:
    job = await accepted(stores)
    first, second = a_delivery(job.id), a_delivery(job.id)

    claims = await stores.attempts.claim([first, second, first], terms(lease=LONG))

    assert [claim.verdict for claim in claims] == [
        Verdict.CLAIMED,
        Verdict.LEASED_THROUGH_ANOTHER_ENTRY,
        Verdict.LEASED,
    ]


@pytest.mark.parametrize(
    ("verdict", "beside"),
    [
        (Verdict.TERMINAL, Verdict.TERMINAL),
        (Verdict.FAILED, Verdict.TERMINAL),
        (Verdict.LEASED, Verdict.LEASED_THROUGH_ANOTHER_ENTRY),
        (Verdict.LEASED_THROUGH_ANOTHER_ENTRY, Verdict.LEASED),
    ],
)
async def test_a_second_entry_is_acknowledged_only_when_nobody_needs_it(
    stores: Stores, observer: Observer, verdict: Verdict, beside: Verdict
) -> None:
    claim = await claimed(stores)
    through = claim.delivery.entry_id if verdict is Verdict.LEASED else None
    if verdict is Verdict.TERMINAL:
        await stores.jobs.cancel_owned(claim.fence.job_id, "acme", None)
    if verdict is Verdict.FAILED:
        await observer.run("UPDATE jobs SET deadline_at = clock_timestamp()")
        await expire_leases(observer)
    batch = [a_delivery(claim.fence.job_id, through), a_delivery(claim.fence.job_id)]

    first, second = await stores.attempts.claim(batch, terms("worker-2"))

    assert (first.verdict, second.verdict) == (verdict, beside)


async def test_a_resumed_job_comes_with_its_checkpoints_and_without_open_calls(
    stores: Stores, observer: Observer
) -> None:
    first = await claimed(stores)
    await finish_a_call(stores, first, 1, step="validation/draft")
    await stores.ledger.open_call(an_opening(first, 2, step="validation/verify", expected=70))
    await expire_leases(observer)

    claim = await judge(stores, first.fence.job_id)

    assert list(claim.checkpoints) == ["validation/draft"]
    totals = await stores.ledger.totals(first.fence.job_id)
    assert (totals.calls, totals.usage.input, totals.usage.estimated) == (2, 170, True)


@pytest.mark.parametrize(
    "damage",
    [
        "output - 'usage'",
        "'[]'",
        "'null'",
        "jsonb_set(output, '{costUsd}', '\"dear\"')",
        "jsonb_set(output, '{usage}', '7')",
    ],
)
async def test_a_checkpoint_that_cannot_be_read_stops_no_neighbour(
    stores: Stores, observer: Observer, damage: str
) -> None:
    resumed = [await claimed(stores) for _ in range(2)]
    for each in resumed:
        await finish_a_call(stores, each, 1, step="validation/draft")
        await finish_a_call(stores, each, 2, step="validation/verify")
    damaged = resumed[0].fence.job_id
    await observer.run(
        f"UPDATE checkpoints SET output = {damage}"  # noqa: S608 - of this list
        " WHERE job_id = $1 AND step = 'validation/draft'",
        damaged,
    )
    await expire_leases(observer)

    deliveries = [a_delivery(each.fence.job_id) for each in resumed]
    claims = await stores.attempts.claim(deliveries, terms("worker-2", suspects_allowed=2))

    assert [claim.verdict for claim in claims] == [Verdict.CLAIMED] * 2
    assert [claim.is_damaged for claim in claims] == [True, False]
    assert sorted(claims[1].checkpoints) == ["validation/draft", "validation/verify"]
    # Whoever only looks at the job sees what can be read.
    assert list(await stores.checkpoints(damaged)) == ["validation/verify"]


async def test_a_job_started_for_the_first_time_reads_no_checkpoints_of_its_neighbours(
    stores: Stores, observer: Observer
) -> None:
    resumed = await claimed(stores)
    await finish_a_call(stores, resumed)
    await expire_leases(observer)
    fresh = await accepted(stores)
    deliveries = [a_delivery(resumed.fence.job_id), a_delivery(fresh.id)]

    claims = await stores.attempts.claim(deliveries, terms("worker-2"))

    assert [len(claim.checkpoints) for claim in claims] == [1, 0]


async def test_workers_that_claim_the_same_jobs_at_once_share_them_without_deadlock(
    stores: Stores, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_MOST_RUNS", 1)
    jobs = [(await accepted(stores)).id for _ in range(40)]

    async def claim_all(worker_id: str, order: list[UUID]) -> list[Claim]:
        async with open_stores(migrated_url) as own:
            deliveries = [a_delivery(job_id) for job_id in order]
            return await own.attempts.claim(deliveries, terms(worker_id, lease=LONG))

    orders = [jobs, jobs[::-1], jobs[20:] + jobs[:20], jobs[::2] + jobs[1::2]]
    answers = await asyncio.gather(
        *(claim_all(f"worker-{number}", order) for number, order in enumerate(orders))
    )

    claims = [claim for answer in answers for claim in answer]
    won = [claim.delivery.job_id for claim in claims if claim.verdict is Verdict.CLAIMED]
    lost = {claim.verdict for claim in claims} - {Verdict.CLAIMED}
    assert sorted(won) == sorted(jobs)
    assert lost == {Verdict.LEASED_THROUGH_ANOTHER_ENTRY}


async def test_a_locked_row_is_waited_for_and_judged_as_it_is_afterwards(
    stores: Stores, observer: Observer
) -> None:
    kept, cancelled = await accepted(stores), await accepted(stores)
    deliveries: list[Delivery] = [a_delivery(kept.id), a_delivery(cancelled.id)]
    async with observer.transaction():
        await observer.run("SELECT FROM jobs ORDER BY id FOR UPDATE")
        claiming = asyncio.ensure_future(stores.attempts.claim(deliveries, terms()))
        await observer.somebody_waits_for_a_lock()
        await observer.run(
            "UPDATE jobs SET status = 'cancelled', attempt = attempt + 1, reserved_tokens = 0,"
            " completed_at = clock_timestamp(), final_event_id = '1-1' WHERE id = $1",
            cancelled.id,
        )

    claims = await claiming

    assert [claim.verdict for claim in claims] == [Verdict.CLAIMED, Verdict.TERMINAL]


async def test_a_checkpoint_that_commits_during_the_claim_is_not_missed(
    stores: Stores, observer: Observer
) -> None:
    first = await claimed(stores)
    await expire_leases(observer)
    async with observer.transaction():
        await observer.run("SELECT FROM jobs FOR UPDATE")
        claiming = asyncio.ensure_future(judge(stores, first.fence.job_id))
        await observer.somebody_waits_for_a_lock()
        await observer.run(_CHECKPOINT, first.fence.job_id)

    claim = await claiming

    assert claim.verdict is Verdict.CLAIMED
    assert list(claim.checkpoints) == ["security/draft"]


_CHECKPOINT = """
INSERT INTO checkpoints (job_id, step, attempt, output) VALUES ($1, 'security/draft', 1,
  '{"text": "", "stopReason": "end_turn", "model": "claude", "costUsd": null, "durationMs": 1,
    "usage": {"input": 1, "output": 1, "cacheRead": 0, "cacheWrite": 0}}')
"""
