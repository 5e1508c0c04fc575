"""Redriving: once per failure, with new budgets, and without what was finished being lost."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from service.domain.acceptance import LimitReached
from service.domain.attempt import Claim, Fence, Verdict
from service.domain.dead_letters import Redrive
from service.domain.errors import JobFinished, JobNotFailed, NotFound
from service.domain.events import EventId
from service.domain.job import Job, JobStatus, Owner
from service.domain.tiers import PRO, UNLIMITED
from service.domain.transitions import Fail
from service.postgres import dead_letters as dead_letters_module
from service.postgres.job_store import PostgresJobStore
from service.postgres.statements import statement
from service.telemetry.logs import get_log
from service.telemetry.metrics import JOBS_REDRIVEN
from tests.fixtures.database import USER_IN_STREAM, Observer, Stores, open_stores
from tests.fixtures.factories import (
    a_closing,
    a_delivery,
    a_new_job,
    an_id,
    an_opening,
    an_owner,
    terms,
)
from tests.fixtures.waiting import eventually
from tests.integration.postgres.steps import (
    LONG,
    accepted,
    assert_books_balance,
    claimed,
    completed,
    finish_a_call,
    row_of,
    seconds_between,
)

REFUSED = Fail("MODEL_REFUSED", "the model refused")


async def failed(stores: Stores, owner: Owner | None = None, how: Fail = REFUSED) -> Claim:
    """A job whose first attempt failed it."""
    claim = await claimed(stores, owner=owner)
    await fail(stores, claim, how)
    return claim


async def fail(stores: Stores, claim: Claim, how: Fail = REFUSED) -> None:
    """Fail a running job."""
    final = EventId(claim.fence.attempt, 5)
    assert (await stores.attempts.record_if_current(claim.fence, how, final)).applied


async def redriven(stores: Stores, job_id: UUID) -> Job:
    """The job, queued again."""
    [redriven] = (await stores.dead_letters.redrive([job_id])).redriven
    return redriven.job


async def test_a_failed_job_is_queued_again_as_if_it_were_new(
    stores: Stores, observer: Observer
) -> None:
    claim = await failed(stores)
    job_id = claim.fence.job_id
    counted = "UPDATE jobs SET error_count = 3, crash_count = 2, handback_count = 7"
    await observer.run(counted)
    before = await row_of(observer, job_id)

    job = await redriven(stores, job_id)

    assert (job.status, job.attempt, job.error) == (JobStatus.QUEUED, 2, None)
    row = await row_of(observer, job_id)
    assert (row["error_count"], row["crash_count"], row["handback_count"]) == (0, 0, 0)
    gone = ("error", "completed_at", "final_event_id", "entry_id", "lease_until", "result")
    assert [name for name in gone if row[name] is not None] == []
    assert row["event_pending"] is False
    assert seconds_between(before["completed_at"], row["available_at"]) > 0
    assert seconds_between(row["available_at"], row["relay_after"]) == pytest.approx(3, abs=0.1)
    kept = ("started_at", "created_at", "story", "options", "iterations", "request_id")
    assert {name: row[name] for name in kept} == {name: before[name] for name in kept}
    assert (row["reserved_tokens"], before["reserved_tokens"]) == (1000, 0)


async def test_every_redrive_gives_the_time_and_tokens_of_the_acceptance(
    stores: Stores, observer: Observer
) -> None:
    job_id = (await accepted(stores, deadline=600.0, reserved=77)).id
    for _ in range(3):
        await fail(stores, await claimed(stores, job_id))
        await observer.run("UPDATE jobs SET created_at = created_at - interval '1 day'")
        await observer.run("UPDATE jobs SET reserved_on = reserved_on - 1")

        job = await redriven(stores, job_id)

        assert seconds_between(job.available_at, job.deadline_at) == pytest.approx(600, abs=0.1)
        row = await row_of(observer, job_id)
        assert row["reserved_tokens"] == 77
        today = "SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date"
        assert row["reserved_on"] == await observer.value(today)


async def test_a_job_of_before_the_redrive_existed_gets_the_time_it_had(
    stores: Stores, observer: Observer
) -> None:
    job_id = (await accepted(stores, deadline=600.0)).id
    await observer.run("UPDATE jobs SET time_allowed = NULL")
    for _ in range(2):
        await fail(stores, await claimed(stores, job_id))
        await observer.run("UPDATE jobs SET completed_at = completed_at + interval '1 day'")

        job = await redriven(stores, job_id)

        assert seconds_between(job.available_at, job.deadline_at) == pytest.approx(600, abs=0.1)


async def test_its_next_attempt_has_what_earlier_generations_finished(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await finish_a_call(stores, claim, step="validation/draft")
    assert await stores.ledger.open_call(an_opening(claim, 2))  # and its worker dies
    await fail(stores, claim)

    job = await redriven(stores, claim.fence.job_id)
    [again] = await stores.attempts.claim([a_delivery(job.id)], terms(lease=LONG))

    assert again.verdict is Verdict.CLAIMED
    assert again.fence.attempt == 3
    assert set(again.checkpoints) == {"validation/draft"}
    assert again.job is not None
    assert claim.job is not None
    assert again.job.started_at == claim.job.started_at
    open_calls = "SELECT count(*) FROM usage_records WHERE ending IS NULL"
    assert await observer.value(open_calls) == 0
    await assert_books_balance(observer)


async def test_a_worker_of_the_generation_before_changes_nothing(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    assert await stores.ledger.open_call(an_opening(claim))
    await fail(stores, claim)
    await redriven(stores, claim.fence.job_id)
    before = await row_of(observer, claim.fence.job_id)

    # Its COMMIT went through and the reply was lost, so it repeats what it wrote.
    repeated = await stores.attempts.record_if_current(claim.fence, REFUSED, EventId(1, 5))
    renewed = await stores.leases.renew("worker-1", [claim.fence], LONG)
    was_current = await stores.ledger.close_call(a_closing(claim.fence))
    await stores.attempts.mark_entry(claim.fence, "1-0")

    assert (repeated.applied, repeated.status, repeated.entry_id) == (
        False,
        JobStatus.QUEUED,
        None,
    )
    assert (renewed, was_current) == (set(), False)
    assert await row_of(observer, claim.fence.job_id) == before


async def test_only_one_of_many_redrives_of_a_failure_takes_effect(
    stores: Stores, observer: Observer, migrated_url: str
) -> None:
    claims = [await failed(stores) for _ in range(6)]
    ids = [claim.fence.job_id for claim in claims]
    async with open_stores(migrated_url) as others:
        async with observer.transaction():
            await observer.run("SELECT FROM jobs FOR UPDATE")
            tasks = [
                *(asyncio.create_task(stores.dead_letters.redrive(ids)) for _ in range(3)),
                *(asyncio.create_task(others.dead_letters.redrive(ids[::-1])) for _ in range(3)),
            ]
            await waiting_for_locks(observer, len(tasks))
        redrives = await asyncio.gather(*tasks)
        by_code = await others.dead_letters.redrive_code("MODEL_REFUSED", 10)

    done = [each.job.id for redrive in redrives for each in redrive.redriven]
    assert sorted(done) == sorted(ids)
    assert by_code == []
    for redrive in redrives:
        assert redrive.others.keys() == set(ids) - {each.job.id for each in redrive.redriven}
        assert set(redrive.others.values()) <= {JobStatus.QUEUED}
    attempts = await observer.connection.fetch("SELECT attempt FROM jobs")
    assert [row["attempt"] for row in attempts] == [2] * 6


async def test_a_redrive_that_waited_for_another_one_finds_the_job_queued(
    stores: Stores, observer: Observer
) -> None:
    job_id = (await failed(stores)).fence.job_id
    async with observer.transaction():
        await observer.run("SELECT FROM jobs WHERE id = $1 FOR UPDATE", job_id)
        by_id = asyncio.create_task(stores.dead_letters.redrive([job_id]))
        by_code = asyncio.create_task(stores.dead_letters.redrive_code("MODEL_REFUSED", 5))
        await waiting_for_locks(observer, 2)

    assert len((await by_id).redriven) + len(await by_code) == 1
    assert (await row_of(observer, job_id))["attempt"] == 2


async def test_a_claim_that_waited_for_a_redrive_starts_the_job(
    stores: Stores, observer: Observer
) -> None:
    """Constraints are checked on what the claim makes of the row as it was before the wait, too."""
    job_id = (await failed(stores)).fence.job_id
    async with observer.transaction():
        redrive = statement("redrive_failed_jobs")
        await observer.run(redrive, [job_id], None, None, None, 1, USER_IN_STREAM, None, None)
        claiming = asyncio.create_task(claimed(stores, job_id))
        await observer.somebody_waits_for_a_lock()

    assert (await claiming).fence.attempt == 3


async def waiting_for_locks(observer: Observer, number: int) -> None:
    """Return once so many statements have begun and wait for somebody's lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    async def look() -> bool:
        # Inside a transaction the first look would be repeated for ever.
        await observer.run("SELECT pg_stat_clear_snapshot()")
        return await observer.value(query) == number

    await eventually(look, within=5, what=f"{number} blocked statements")


async def test_a_redrive_that_comes_during_another_failure_judges_the_row_as_it_is(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    async with observer.transaction():
        await observer.run("SELECT FROM jobs FOR UPDATE")
        failing = asyncio.create_task(fail(stores, claim))
        await observer.somebody_waits_for_a_lock()
        early = await stores.dead_letters.redrive([claim.fence.job_id])
    await failing

    assert early.others == {claim.fence.job_id: JobStatus.PROCESSING}
    assert (await redriven(stores, claim.fence.job_id)).attempt == 2


async def test_a_late_clear_of_the_generation_before_leaves_the_debt_of_the_new_one(
    stores: Stores, observer: Observer
) -> None:
    claim = await failed(stores)
    [owing] = await _owing(stores, observer)  # and whoever listed it is slow
    await redriven(stores, claim.fence.job_id)
    again = await claimed(stores, claim.fence.job_id)
    await fail(stores, again)

    await stores.attempts.clear_event_pending(owing.id, _final_of(owing))

    assert (await row_of(observer, owing.id))["event_pending"] is True
    [owing_again] = await _owing(stores, observer)
    await stores.attempts.clear_event_pending(owing.id, _final_of(owing_again))
    assert (await row_of(observer, owing.id))["event_pending"] is False


async def _owing(stores: Stores, observer: Observer) -> list[Job]:
    await observer.run("UPDATE jobs SET completed_at = completed_at - interval '3 seconds'")
    return await stores.upkeep.owing_events(10)


def _final_of(job: Job) -> EventId:
    final = EventId.parse(job.final_event_id or "")
    assert final is not None
    return final


async def test_clears_of_many_jobs_at_once_are_each_their_own(
    stores: Stores, observer: Observer
) -> None:
    claims = [await failed(stores) for _ in range(6)]
    finals = [EventId(1, 5), EventId(1, 4)] * 3

    await asyncio.gather(
        *(
            stores.attempts.clear_event_pending(claim.fence.job_id, final)
            for claim, final in zip(claims, finals, strict=True)
        )
    )

    owing = [(await row_of(observer, c.fence.job_id))["event_pending"] for c in claims]
    assert owing == [False, True] * 3


async def test_jobs_that_have_not_failed_stay_as_they_are_and_are_named(
    stores: Stores, observer: Observer
) -> None:
    queued = (await accepted(stores)).id
    running = (await claimed(stores)).fence.job_id
    done = (await completed(stores)).job_id
    owner = an_owner()
    cancelled = (await accepted(stores, owner)).id
    await stores.jobs.cancel_owned(cancelled, owner.tenant_id, owner.user_id)
    rows = "SELECT * FROM jobs ORDER BY id"
    before = await observer.connection.fetch(rows)
    missing = an_id()

    redrive = await stores.dead_letters.redrive([queued, running, done, cancelled, missing])

    assert redrive == Redrive(
        (),
        {
            queued: JobStatus.QUEUED,
            running: JobStatus.PROCESSING,
            done: JobStatus.COMPLETED,
            cancelled: JobStatus.CANCELLED,
            missing: None,
        },
    )
    assert await observer.connection.fetch(rows) == before


async def test_a_job_named_twice_is_redriven_once(stores: Stores) -> None:
    job_id = (await failed(stores)).fence.job_id

    redrive = await stores.dead_letters.redrive([job_id, job_id])

    assert [each.job.attempt for each in redrive.redriven] == [2]
    assert redrive.others == {}


async def test_an_owner_redrives_his_own_failed_jobs_and_no_others(stores: Stores) -> None:
    ann = Owner("acme", "ann")
    job_id = (await failed(stores, ann)).fence.job_id
    redrive = stores.dead_letters.redrive_owned
    for tenant, user in (("acme", "bob"), ("rival", "ann"), ("rival", None)):
        with pytest.raises(NotFound):
            await redrive(job_id, tenant, user, UNLIMITED)
    with pytest.raises(NotFound):
        await redrive(an_id(), "acme", "ann", UNLIMITED)

    assert (await redrive(job_id, "acme", "ann", UNLIMITED)).job.attempt == 2

    with pytest.raises(JobNotFailed, match="this one is queued"):
        await redrive(job_id, "acme", "ann", UNLIMITED)
    await fail(stores, await claimed(stores, job_id))
    assert (await redrive(job_id, "acme", None, UNLIMITED)).job.attempt == 4


async def test_by_code_those_are_redriven_first_that_failed_first(stores: Stores) -> None:
    busy = Fail("ATTEMPTS_EXHAUSTED", "gave up")
    ids = [(await failed(stores, how=busy)).fence.job_id for _ in range(3)]
    other = (await failed(stores)).fence.job_id

    first = await stores.dead_letters.redrive_code("ATTEMPTS_EXHAUSTED", 2)
    rest = await stores.dead_letters.redrive_code("ATTEMPTS_EXHAUSTED", 2)

    assert {each.job.id for each in first} == set(ids[:2])
    assert [each.job.id for each in rest] == ids[2:]
    page = await stores.dead_letters.page(None, None, 10)
    assert [letter.id for letter in page.letters] == [other]


async def test_a_user_with_enough_in_the_stream_waits_for_the_relay(
    stores: Stores, observer: Observer
) -> None:
    owner, other = an_owner(), an_owner()
    ids = [(await failed(stores, owner)).fence.job_id for _ in range(USER_IN_STREAM)]
    alone = (await failed(stores, other)).fence.job_id
    for number in range(3):
        job = await accepted(stores, owner)
        await stores.attempts.mark_entry(Fence(job.id, 0), f"{number}-0")

    redrive = await stores.dead_letters.redrive([*ids, alone])

    ringing = [each.job.owner for each in redrive.redriven if each.ring_now]
    assert (ringing.count(owner), ringing.count(other)) == (USER_IN_STREAM - 3, 1)
    for each in redrive.redriven:
        row = await row_of(observer, each.job.id)
        waits = seconds_between(row["available_at"], row["relay_after"])
        assert waits == pytest.approx(3.0 if each.ring_now else 0.0, abs=0.1)
    due = await stores.upkeep.take_relay_batch(USER_IN_STREAM, 100)
    assert due == []


async def test_a_cancelled_job_is_never_redriven_and_a_redriven_one_can_be_cancelled(
    stores: Stores,
) -> None:
    owner = an_owner()
    job_id = (await failed(stores, owner)).fence.job_id
    with pytest.raises(JobFinished):
        await stores.jobs.cancel_owned(job_id, owner.tenant_id, owner.user_id)
    await redriven(stores, job_id)

    cancelled = await stores.jobs.cancel_owned(job_id, owner.tenant_id, owner.user_id)

    assert (cancelled.attempt, cancelled.final_event_id) == (3, "3-1")
    assert (await stores.dead_letters.redrive([job_id])).others == {job_id: JobStatus.CANCELLED}


async def test_a_cancellation_that_meets_a_redrive_cancels_the_queued_job(
    stores: Stores,
) -> None:
    owner = an_owner()
    job_id = (await failed(stores, owner)).fence.job_id

    class MeetsARedrive(PostgresJobStore):
        async def get_owned(self, *given: Any) -> Job | None:
            await stores.dead_letters.redrive([job_id])
            return await super().get_owned(*given)

    jobs = MeetsARedrive(stores.database, stores.attempts, stores.background, user_in_stream=0)
    cancelled = await jobs.cancel_owned(job_id, owner.tenant_id, owner.user_id)

    assert (cancelled.status, cancelled.attempt) == (JobStatus.CANCELLED, 3)


async def test_a_redrive_that_meets_the_failure_redrives_it(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = an_owner()
    claim = await claimed(stores, owner=owner)
    fetch_one = stores.database.fetch_one

    async def fail_before_it_is_read(name: str, *parameters: Any) -> Any:
        if name == "get_owned_job":
            await fail(stores, claim)
        return await fetch_one(name, *parameters)

    monkeypatch.setattr(stores.database, "fetch_one", fail_before_it_is_read)
    redrive = stores.dead_letters.redrive_owned
    redriven = await redrive(claim.fence.job_id, owner.tenant_id, owner.user_id, UNLIMITED)

    assert (redriven.job.status, redriven.job.attempt) == (JobStatus.QUEUED, 2)


async def test_failures_by_maintenance_are_redriven_like_any_other(
    stores: Stores, observer: Observer
) -> None:
    job_id = (await accepted(stores)).id
    await observer.run("UPDATE jobs SET deadline_at = clock_timestamp() - interval '1 second'")
    assert await stores.upkeep.fail_overdue(10) == 1

    job = await redriven(stores, job_id)

    assert (job.attempt, job.status) == (2, JobStatus.QUEUED)
    assert job.deadline_at > job.available_at


async def test_dead_letters_are_everybodys_newest_first_page_by_page(
    stores: Stores, observer: Observer
) -> None:
    ids = [(await failed(stores, Owner("acme", f"user-{n}"))).fence.job_id for n in range(5)]
    await completed(stores)
    await accepted(stores)

    pages: list[list[UUID]] = []
    before: tuple[datetime, UUID] | None = None
    while not pages or before is not None:
        page = await stores.dead_letters.page(None, before, 2)
        pages.append([letter.id for letter in page.letters])
        before = page.next_cursor
        await failed(stores)  # what fails meanwhile is on no later page

    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]


async def test_a_dead_letter_says_whose_it_is_and_why_it_failed(
    stores: Stores, observer: Observer
) -> None:
    claim = await failed(stores, Owner("acme", "ann"), Fail("PROCESSING_ERROR", "an error", True))
    await observer.run("UPDATE jobs SET crash_count = 2, handback_count = 7")
    await failed(stores)

    [letter] = (await stores.dead_letters.page("PROCESSING_ERROR", None, 10)).letters

    row = await row_of(observer, claim.fence.job_id)
    assert (letter.id, letter.owner, letter.agent) == (row["id"], Owner("acme", "ann"), "noop")
    assert letter.error == {"code": "PROCESSING_ERROR", "message": "an error", "retryable": True}
    assert (letter.attempt, letter.error_count) == (1, 1)
    assert (letter.crash_count, letter.handback_count) == (2, 7)
    assert (letter.created_at, letter.failed_at) == (row["created_at"], row["completed_at"])


async def test_every_redrive_is_counted_and_logged_once(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters_module, "_log", get_log("dead_letters"))
    job_id, before = (await failed(stores)).fence.job_id, JOBS_REDRIVEN._value.get()

    with capture_logs() as lines:
        for _ in range(2):
            await stores.dead_letters.redrive([job_id])

    assert JOBS_REDRIVEN._value.get() == before + 1
    [line] = [each for each in lines if each["event"] == "job_redriven"]
    assert (line["job"], line["attempt"], line["failure"]) == (str(job_id), 2, "MODEL_REFUSED")


async def test_of_many_redrives_at_once_only_those_within_the_owners_limit_are_done(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    failures = [(await failed(stores, owner)).fence.job_id for _ in range(20)]

    async def redrive(job_id: UUID) -> str:
        try:
            await stores.dead_letters.redrive_owned(job_id, owner.tenant_id, owner.user_id, PRO)
        except LimitReached as refusal:
            return refusal.code
        return "queued"

    outcomes = Counter(await asyncio.gather(*map(redrive, failures)))

    assert outcomes == {"queued": 3, "CONCURRENT_JOB_LIMIT": 17}
    assert await observer.value("SELECT count(*) FROM jobs WHERE status = 'queued'") == 3
    with pytest.raises(LimitReached):
        await stores.jobs.accept(a_new_job(owner, tier=PRO))


async def test_a_redrive_needs_room_for_its_tokens(stores: Stores) -> None:
    owner = an_owner()
    job_id = (await failed(stores, owner)).fence.job_id
    redrive = stores.dead_letters.redrive_owned
    little = replace(UNLIMITED, tokens_per_day=999)

    with pytest.raises(LimitReached, match="expected to use 1000 tokens"):
        await redrive(job_id, owner.tenant_id, owner.user_id, little)

    enough = replace(UNLIMITED, tokens_per_day=1000)
    assert (await redrive(job_id, owner.tenant_id, owner.user_id, enough)).job.attempt == 2


async def test_those_who_operate_the_queue_redrive_beyond_an_owners_limits(stores: Stores) -> None:
    owner = an_owner()
    failures = [(await failed(stores, owner)).fence.job_id for _ in range(5)]

    assert len((await stores.dead_letters.redrive(failures)).redriven) == 5
