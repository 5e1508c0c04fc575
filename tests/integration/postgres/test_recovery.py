"""What maintenance lists and repairs: lost workers, lost entries, missed deadlines, owed events."""

import asyncio

import pytest

from service.domain.attempt import Fence
from service.domain.errors import Unavailable
from service.domain.events import EventId
from service.domain.job import JobStatus
from service.domain.transitions import Complete
from service.ports.upkeep import RecordedEntry, Recovered
from service.postgres import turns
from tests.fixtures.database import Observer, Stores, open_stores
from tests.fixtures.factories import an_id, an_opening, an_owner, terms
from tests.fixtures.waiting import eventually
from tests.integration.postgres.steps import (
    LONG,
    accepted,
    claimed,
    completed,
    expire_leases,
    finish_a_call,
    retried,
    row_of,
)

LEASE = 0.01
NO_ENTRY = (0, 0)


async def test_a_lease_is_listed_three_seconds_after_its_end(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)

    await expire_leases(observer, 2.5)
    early = await stores.upkeep.expired_leases(LEASE, 10)
    await expire_leases(observer, 3.5)
    late = await stores.upkeep.expired_leases(LEASE, 10)

    assert early == []
    assert late == [RecordedEntry(claim.fence, claim.delivery.entry_id)]


async def test_after_minutes_of_silence_the_entry_does_not_count(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await expire_leases(observer, 121.0)

    assert await stores.upkeep.expired_leases(LEASE, 10) == [RecordedEntry(claim.fence, "")]


async def test_no_lease_is_listed_within_one_lease_of_the_servers_start(
    stores: Stores, observer: Observer
) -> None:
    await claimed(stores)
    await expire_leases(observer)

    assert await stores.upkeep.expired_leases(86_400.0 * 365, 10) == []


async def test_listing_is_bounded_and_begins_with_the_longest_silence(
    stores: Stores, observer: Observer
) -> None:
    claims = [await claimed(stores) for _ in range(3)]
    for claim, seconds in zip(claims, (10, 30, 20), strict=True):
        await observer.run(
            "UPDATE jobs SET lease_until = clock_timestamp() - make_interval(secs => $1)"
            " WHERE id = $2",
            float(seconds),
            claim.fence.job_id,
        )

    listed = await stores.upkeep.expired_leases(LEASE, 2)
    rest = await stores.upkeep.expired_leases(LEASE, 2, skip=2)

    assert [each.fence for each in listed] == [claims[1].fence, claims[2].fence]
    assert [each.fence for each in rest] == [claims[0].fence]


async def test_a_lost_job_is_queued_again_and_counts_a_crash(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await expire_leases(observer)

    recovered = await stores.upkeep.recover_if_expired([claim.fence], 3)

    assert recovered == Recovered(queued=1, failed=0)
    row = await row_of(observer, claim.fence.job_id)
    assert (row["status"], row["attempt"], row["entry_id"]) == ("queued", 1, None)
    assert (row["crash_count"], row["lease_until"]) == (1, None)
    due = await stores.upkeep.take_relay_batch(10, 10)
    assert [each.fence for each in due] == [claim.fence]


async def test_a_lost_job_without_crashes_left_fails_for_good(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await expire_leases(observer)

    recovered = await stores.upkeep.recover_if_expired([claim.fence], 1)

    assert recovered == Recovered(queued=0, failed=1)
    job = await stores.attempts.get(claim.fence.job_id)
    assert job is not None
    assert job.error is not None
    assert (job.status, job.error["code"]) == (JobStatus.FAILED, "WORKER_LOST")
    assert (job.attempt, job.crash_count, job.final_event_id) == (2, 1, "2-1")
    row = await row_of(observer, job.id)
    assert (row["event_pending"], row["reserved_tokens"]) == (True, 0)


async def test_a_job_renewed_or_claimed_since_it_was_listed_is_left_alone(
    stores: Stores, observer: Observer
) -> None:
    renewed, taken = await claimed(stores), await claimed(stores)
    await expire_leases(observer)
    await stores.leases.renew("worker-1", [renewed.fence], LONG)
    await claimed(stores, taken.fence.job_id, under=terms("worker-2"))

    recovered = await stores.upkeep.recover_if_expired([renewed.fence, taken.fence], 3)

    assert recovered == Recovered(queued=0, failed=0)


async def test_recovering_nothing_or_the_unknown_does_nothing(stores: Stores) -> None:
    assert await stores.upkeep.recover_if_expired([], 3) == Recovered(0, 0)
    assert await stores.upkeep.recover_if_expired([Fence(an_id(), 1)], 3) == Recovered(0, 0)


async def test_a_checkpoint_that_commits_during_the_recovery_saves_the_job(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await expire_leases(observer)
    await observer.run("UPDATE jobs SET crash_count = 2")
    async with observer.transaction():
        await observer.run("UPDATE jobs SET crash_count = 0")
        recovering = asyncio.ensure_future(stores.upkeep.recover_if_expired([claim.fence], 3))
        await observer.somebody_waits_for_a_lock()

    assert await recovering == Recovered(queued=1, failed=0)
    assert (await row_of(observer, claim.fence.job_id))["crash_count"] == 1


async def test_a_queued_job_past_its_deadline_fails(stores: Stores, observer: Observer) -> None:
    overdue, retrying = await accepted(stores), await retried(stores, 600.0)
    running, in_time = await claimed(stores), await accepted(stores)
    await observer.run("UPDATE jobs SET deadline_at = clock_timestamp() WHERE id <> $1", in_time.id)

    failed = await stores.upkeep.fail_overdue(10)

    assert failed == 2
    job = await stores.attempts.get(retrying.job_id)
    assert job is not None
    assert job.error is not None
    assert (job.status, job.error["code"]) == (JobStatus.FAILED, "DEADLINE_EXCEEDED")
    assert (job.attempt, job.final_event_id) == (2, "2-1")
    row = await row_of(observer, overdue.id)
    assert (row["attempt"], row["event_pending"], row["reserved_tokens"]) == (1, True, 0)
    fences = await stores.attempts.read_fences([running.fence.job_id, in_time.id])
    assert fences[running.fence.job_id].status is JobStatus.PROCESSING
    assert fences[in_time.id].status is JobStatus.QUEUED


async def test_overdue_jobs_are_failed_in_batches_the_latest_last(
    stores: Stores, observer: Observer
) -> None:
    jobs = [await accepted(stores) for _ in range(3)]
    await observer.run(
        "UPDATE jobs SET deadline_at = clock_timestamp() - (clock_timestamp() - created_at)"
    )

    failed = [await stores.upkeep.fail_overdue(2) for _ in range(3)]

    assert failed == [2, 1, 0]
    first_two = "SELECT max(completed_at) FROM jobs WHERE id <> $1"
    last = "SELECT completed_at FROM jobs WHERE id = $1"
    before = await observer.connection.fetchval(first_two, jobs[2].id)
    assert before < await observer.connection.fetchval(last, jobs[2].id)


async def test_an_owed_event_is_listed_after_two_seconds_until_it_is_there(
    stores: Stores, observer: Observer
) -> None:
    fence = await completed(stores)

    early = await stores.upkeep.owing_events(10)
    await observer.run("UPDATE jobs SET completed_at = completed_at - interval '2 seconds'")
    owing = await stores.upkeep.owing_events(10)
    skipped = await stores.upkeep.owing_events(10, skip=1)
    await stores.attempts.clear_event_pending(fence.job_id, EventId(1, 3))
    later = await stores.upkeep.owing_events(10)

    assert (early, skipped, later) == ([], [], [])
    assert [(job.id, job.final_event_id) for job in owing] == [(fence.job_id, "1-3")]
    assert owing[0].result == {"ok": True}


async def queued_with_entry(stores: Stores, entry_id: str) -> Fence:
    """A queued job that was never started, with its entry."""
    fence = Fence((await accepted(stores)).id, 0)
    await stores.attempts.mark_entry(fence, entry_id)
    return fence


async def suspects(
    stores: Stores,
    *,
    started: bool = False,
    last_delivered: tuple[int, int] = NO_ENTRY,
    first: tuple[int, int] | None = (1, 0),
    last: tuple[int, int] = (1_000, 0),
    limit: int = 100,
    skip: int = 0,
) -> list[RecordedEntry]:
    """What is suspected while the stream is in such a state."""
    return await stores.upkeep.suspect_entries(
        started=started,
        last_delivered=last_delivered,
        span=(first, last) if first else None,
        limit=limit,
        skip=skip,
    )


async def test_a_deep_healthy_queue_is_left_alone(stores: Stores) -> None:
    for number in range(5, 15):
        await queued_with_entry(stores, f"{number}-0")

    assert await suspects(stores, last_delivered=(4, 9), first=(5, 0)) == []


async def test_a_delivered_entry_of_a_queued_job_is_suspected(stores: Stores) -> None:
    delivered = await queued_with_entry(stores, "9-2")
    await queued_with_entry(stores, "10-0")

    found = await suspects(stores, last_delivered=(9, 2), first=(1, 0))

    assert found == [RecordedEntry(delivered, "9-2")]


async def test_entry_ids_are_compared_as_numbers(stores: Stores) -> None:
    delivered = [await queued_with_entry(stores, each) for each in ("9-10", "9-9")]
    await queued_with_entry(stores, "10-1")
    await queued_with_entry(stores, "9-11")

    found = await suspects(stores, last_delivered=(9, 10), first=(1, 0))

    assert [each.fence for each in found] == delivered


async def test_an_entry_from_before_the_stream_begins_is_suspected(stores: Stores) -> None:
    flushed = await queued_with_entry(stores, "7-0")
    await queued_with_entry(stores, "20-0")

    found = await suspects(stores, first=(20, 0))

    assert found == [RecordedEntry(flushed, "7-0")]


async def test_an_entry_from_after_the_stream_ends_is_suspected(stores: Stores) -> None:
    await queued_with_entry(stores, "7-0")
    lost_in_a_failover = await queued_with_entry(stores, "7-1")

    found = await suspects(stores, first=(2, 0), last=(7, 0))

    assert found == [RecordedEntry(lost_in_a_failover, "7-1")]


async def test_what_is_no_entry_id_is_suspected_and_hides_no_other(
    stores: Stores, observer: Observer
) -> None:
    odd = [await queued_with_entry(stores, "1-0") for _ in range(3)]
    await queued_with_entry(stores, "7-0")
    for fence, entry_id in zip(odd, ("", "garbage", f"{2**64 - 1}-0"), strict=True):
        await observer.run("UPDATE jobs SET entry_id = $1 WHERE id = $2", entry_id, fence.job_id)

    found = await suspects(stores, first=(2, 0), last=(7, 0))

    assert [each.fence for each in found] == odd


async def test_every_entry_of_an_empty_stream_is_suspected(stores: Stores) -> None:
    lost = await queued_with_entry(stores, "99-0")

    assert await suspects(stores, first=None) == [RecordedEntry(lost, "99-0")]


async def test_jobs_without_entry_running_or_waiting_are_not_suspected(
    stores: Stores, observer: Observer
) -> None:
    await accepted(stores)
    await claimed(stores)
    await completed(stores)
    await retried(stores, 60.0)
    await observer.run("UPDATE jobs SET entry_id = '1-0' WHERE available_at > clock_timestamp()")

    assert await suspects(stores, first=None) == []
    assert await suspects(stores, started=True, first=None) == []


async def test_first_starts_and_later_ones_are_judged_by_their_own_streams(
    stores: Stores,
) -> None:
    first_start = await queued_with_entry(stores, "5-0")
    again = await retried(stores, 0.0)
    await stores.attempts.mark_entry(again, "6-0")

    fresh = await suspects(stores, started=False, first=None)
    started = await suspects(stores, started=True, first=None)

    assert fresh == [RecordedEntry(first_start, "5-0")]
    assert started == [RecordedEntry(again, "6-0")]


async def test_suspects_are_listed_in_batches_the_oldest_first(stores: Stores) -> None:
    fences = [await queued_with_entry(stores, f"{9 - number}-0") for number in range(4)]

    found = await suspects(stores, first=None, limit=2)
    rest = await suspects(stores, first=None, limit=2, skip=2)

    assert [each.fence for each in found] == fences[:2]
    assert [each.fence for each in rest] == fences[2:]


async def test_a_lost_entry_is_forgotten_so_that_the_relay_adds_another(stores: Stores) -> None:
    fence = await queued_with_entry(stores, "5-0")

    forgotten = await stores.upkeep.unmark_entries([(fence.job_id, "5-0")])

    assert forgotten == 1
    assert [due.fence for due in await stores.upkeep.take_relay_batch(10, 10)] == [fence]


async def test_a_job_whose_entry_was_lost_keeps_its_turn(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    older, younger = await accepted(stores, owner), await accepted(stores, owner)
    await observer.run("UPDATE jobs SET relay_after = created_at")
    await stores.attempts.mark_entry(Fence(older.id, 0), "5-0")

    await stores.upkeep.unmark_entries([(older.id, "5-0")])

    due = await stores.upkeep.take_relay_batch(10, 10)
    assert [each.fence.job_id for each in due] == [older.id, younger.id]


@pytest.mark.parametrize("what", ["another entry", "claimed", "cancelled"])
async def test_a_job_that_moved_on_keeps_what_it_has(
    stores: Stores, observer: Observer, what: str
) -> None:
    fence = await queued_with_entry(stores, "5-0")
    if what == "another entry":
        await observer.run("UPDATE jobs SET entry_id = '6-0'")
    if what == "claimed":
        await claimed(stores, fence.job_id)
        await observer.run("UPDATE jobs SET entry_id = '5-0'")
    if what == "cancelled":
        await stores.jobs.cancel_owned(fence.job_id, "acme", None)
    before = await row_of(observer, fence.job_id)

    assert await stores.upkeep.unmark_entries([(fence.job_id, "5-0")]) == 0
    assert await row_of(observer, fence.job_id) == before


async def test_nothing_to_forget_is_nothing_to_do(stores: Stores) -> None:
    assert await stores.upkeep.unmark_entries([]) == 0


async def test_one_reconciler_works_at_a_time(stores: Stores, migrated_url: str) -> None:
    async with open_stores(migrated_url) as other:
        async with (
            stores.upkeep.only_reconciler() as first,
            other.upkeep.only_reconciler() as second,
        ):
            at_once = (first, second)
        async with other.upkeep.only_reconciler() as afterwards:
            pass

    assert at_once == (True, False)
    assert afterwards


async def test_the_reconcilers_lock_is_free_again_after_an_error(
    stores: Stores, migrated_url: str
) -> None:
    with pytest.raises(Unavailable, match="Redis"):
        async with stores.upkeep.only_reconciler():
            raise Unavailable("Redis")

    async with open_stores(migrated_url) as other, other.upkeep.only_reconciler() as is_ours:
        assert is_ours


async def test_a_reconciler_that_hangs_loses_its_lock(
    stores: Stores, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_LONGEST_ROUND", 0.1)

    async def is_free() -> bool:
        async with open_stores(migrated_url) as other, other.upkeep.only_reconciler() as is_ours:
            return is_ours

    with pytest.raises(Unavailable):
        async with stores.upkeep.only_reconciler():
            taken_over = await eventually(is_free, within=5)

    assert taken_over


async def test_the_reconciler_repairs_while_it_holds_its_lock(stores: Stores) -> None:
    claim = await claimed(stores)
    async with stores.upkeep.only_reconciler():
        await stores.ledger.open_call(an_opening(claim))
        await finish_a_call(stores, claim, 2)
        recorded = await stores.attempts.record_if_current(
            claim.fence, Complete({"ok": 1}), EventId(1, 1)
        )

    assert recorded.applied
