"""Recording how attempts end: guarded, repeatable, and each item for itself."""

import asyncio

import pytest

from service.domain.attempt import Fence
from service.domain.events import EventId
from service.domain.job import JobStatus
from service.domain.transitions import Abandon, Complete, Fail, HandBack, Retry, Transition
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import a_delivery, an_id, terms
from tests.integration.postgres.steps import (
    accepted,
    claimed,
    expire_leases,
    row_of,
    seconds_between,
    taken_over,
)

FINAL = EventId(1, 7)


async def test_completing_keeps_the_result_and_owes_the_event(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)

    recorded = await stores.attempts.record_if_current(
        claim.fence, Complete({"markdown": "# Story", "costUsd": 0.1}), FINAL
    )

    assert recorded.applied
    assert (recorded.status, recorded.attempt) == (JobStatus.COMPLETED, 1)
    assert (recorded.entry_id, recorded.final_event_id) == (claim.delivery.entry_id, "1-7")
    job = await stores.attempts.get(claim.fence.job_id)
    assert job is not None
    assert job.result == {"markdown": "# Story", "costUsd": 0.1}
    assert job.completed_at is not None
    row = await row_of(observer, job.id)
    assert (row["event_pending"], row["reserved_tokens"], row["lease_until"]) == (True, 0, None)


async def test_failing_keeps_the_error(stores: Stores, observer: Observer) -> None:
    claim = await claimed(stores)
    failure = Fail("MODEL_REFUSED", "the model refused", retryable=False)

    recorded = await stores.attempts.record_if_current(claim.fence, failure, FINAL)

    assert recorded.applied
    job = await stores.attempts.get(claim.fence.job_id)
    assert job is not None
    assert (job.status, job.error) == (JobStatus.FAILED, failure.as_json())
    row = await row_of(observer, job.id)
    assert (row["event_pending"], row["reserved_tokens"], row["result"]) == (True, 0, None)


async def test_a_retry_waits_in_postgres_and_keeps_its_reservation(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)

    recorded = await stores.attempts.record_if_current(
        claim.fence, Retry(30.0, "MODEL_UNAVAILABLE", "busy"), None
    )

    assert recorded.applied
    assert (recorded.status, recorded.attempt, recorded.entry_id) == (JobStatus.QUEUED, 1, None)
    row = await row_of(observer, claim.fence.job_id)
    assert (row["error_count"], row["crash_count"], row["handback_count"]) == (1, 0, 0)
    assert (row["reserved_tokens"], row["event_pending"], row["completed_at"]) == (
        1000,
        False,
        None,
    )
    assert seconds_between(row["started_at"], row["available_at"]) == pytest.approx(30, abs=1)
    assert 0 <= seconds_between(row["available_at"], row["relay_after"]) < 0.1


async def test_a_hand_back_is_free_of_charge_and_due_at_once(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)

    recorded = await stores.attempts.record_if_current(claim.fence, HandBack(), None)

    assert recorded.applied
    row = await row_of(observer, claim.fence.job_id)
    assert (row["error_count"], row["crash_count"], row["handback_count"]) == (0, 0, 1)
    assert (row["status"], row["entry_id"]) == ("queued", None)
    assert seconds_between(row["available_at"], row["relay_after"]) == pytest.approx(2, abs=0.1)
    again = await stores.attempts.claim([a_delivery(claim.fence.job_id)], terms("worker-2"))
    assert again[0].fence.attempt == 2


@pytest.mark.parametrize(
    ("transition", "final"),
    [
        (Complete({"ok": 1}), FINAL),
        (Fail("MODEL_REFUSED", "no"), FINAL),
        (Retry(0.0, "MODEL_UNAVAILABLE", "busy"), None),
        (HandBack(), None),
    ],
    ids=["complete", "fail", "retry", "hand back"],
)
async def test_repeating_an_ending_whose_answer_was_lost_changes_nothing(
    stores: Stores, observer: Observer, transition: Transition, final: EventId | None
) -> None:
    claim = await claimed(stores)
    first = await stores.attempts.record_if_current(claim.fence, transition, final)
    before = await row_of(observer, claim.fence.job_id)

    again = await stores.attempts.record_if_current(claim.fence, transition, final)

    assert first.applied
    assert again == first
    assert await row_of(observer, claim.fence.job_id) == before


async def test_the_same_ending_twice_in_one_batch_is_applied_for_both(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    retry = Retry(0.0, "MODEL_UNAVAILABLE", "busy")

    both = await asyncio.gather(
        *(stores.attempts.record_if_current(claim.fence, retry, None) for _ in range(2))
    )

    assert [each.applied for each in both] == [True, True]
    assert (await row_of(observer, claim.fence.job_id))["error_count"] == 1


async def test_of_two_different_endings_in_one_batch_exactly_the_first_is_applied(
    stores: Stores,
) -> None:
    claim = await claimed(stores)

    completed, failed = await asyncio.gather(
        stores.attempts.record_if_current(claim.fence, Complete({"ok": 1}), FINAL),
        stores.attempts.record_if_current(claim.fence, Fail("MODEL_REFUSED", "no"), FINAL),
    )

    assert (completed.applied, failed.applied) == (True, False)
    assert failed.status is JobStatus.COMPLETED


async def test_a_stale_attempt_cannot_end_the_job(stores: Stores, observer: Observer) -> None:
    stale = await claimed(stores)
    current = await taken_over(stores, observer, stale)
    before = await row_of(observer, stale.fence.job_id)

    recorded = await stores.attempts.record_if_current(stale.fence, Complete({"ok": 1}), FINAL)

    assert not recorded.applied
    assert (recorded.status, recorded.attempt) == (JobStatus.PROCESSING, 2)
    assert recorded.entry_id == current.delivery.entry_id
    assert await row_of(observer, stale.fence.job_id) == before


async def test_a_recovered_job_cannot_be_ended_by_its_lost_worker(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await expire_leases(observer)
    await stores.upkeep.recover_if_expired([claim.fence], 3)

    recorded = await stores.attempts.record_if_current(claim.fence, Complete({"ok": 1}), FINAL)

    assert (recorded.applied, recorded.status) == (False, JobStatus.QUEUED)


async def test_an_erased_job_cannot_be_ended(stores: Stores) -> None:
    recorded = await stores.attempts.record_if_current(Fence(an_id(), 1), HandBack(), None)

    assert (recorded.applied, recorded.status, recorded.attempt) == (False, None, 0)


async def test_giving_a_job_up_writes_nothing(stores: Stores) -> None:
    claim = await claimed(stores)

    with pytest.raises(TypeError):
        await stores.attempts.record_if_current(claim.fence, Abandon(), None)

    fences = await stores.attempts.read_fences([claim.fence.job_id])
    assert fences[claim.fence.job_id].status is JobStatus.PROCESSING


async def test_completing_and_cancelling_race_and_exactly_one_wins(stores: Stores) -> None:
    claims = [await claimed(stores) for _ in range(30)]

    async def complete(number: int) -> bool:
        return (
            await stores.attempts.record_if_current(
                claims[number].fence, Complete({"ok": 1}), FINAL
            )
        ).applied

    async def cancel(number: int) -> None:
        await stores.jobs.cancel_owned(claims[number].fence.job_id, "acme", None)

    answers = await asyncio.gather(
        *(act(number) for number in range(30) for act in (complete, cancel)),
        return_exceptions=True,
    )

    for number, claim in enumerate(claims):
        was_completed, cancelled = answers[2 * number], answers[2 * number + 1]
        fence = (await stores.attempts.read_fences([claim.fence.job_id]))[claim.fence.job_id]
        assert was_completed is (fence.status is JobStatus.COMPLETED)
        assert (cancelled is None) is (fence.status is JobStatus.CANCELLED)


async def test_an_ending_that_waits_for_a_cancellation_is_fenced_by_it(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    async with observer.transaction():
        await observer.run(
            "UPDATE jobs SET status = 'cancelled', attempt = attempt + 1, reserved_tokens = 0,"
            " completed_at = clock_timestamp(), final_event_id = '2-1'"
        )
        ending = asyncio.ensure_future(
            stores.attempts.record_if_current(claim.fence, Complete({"ok": 1}), FINAL)
        )
        await observer.somebody_waits_for_a_lock()

    recorded = await ending

    assert (recorded.applied, recorded.status, recorded.attempt) == (
        False,
        JobStatus.CANCELLED,
        2,
    )
    assert recorded.final_event_id == "2-1"


async def test_an_entry_is_recorded_only_for_a_queued_job_without_one(
    stores: Stores, observer: Observer
) -> None:
    queued, running = await accepted(stores), await claimed(stores)

    await stores.attempts.mark_entry(Fence(queued.id, 0), "7-0")
    await stores.attempts.mark_entry(Fence(queued.id, 0), "8-0")
    await stores.attempts.mark_entry(running.fence, "9-0")

    assert (await row_of(observer, queued.id))["entry_id"] == "7-0"
    assert (await row_of(observer, running.fence.job_id))["entry_id"] == running.delivery.entry_id


async def test_a_late_mark_of_an_earlier_attempt_changes_nothing(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await stores.attempts.record_if_current(claim.fence, HandBack(), None)

    await stores.attempts.mark_entry(Fence(claim.fence.job_id, 0), "7-0")

    assert (await row_of(observer, claim.fence.job_id))["entry_id"] is None


async def test_a_terminal_event_in_its_stream_is_owed_no_more(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await stores.attempts.record_if_current(claim.fence, Complete({"ok": 1}), FINAL)

    await stores.attempts.clear_event_pending(claim.fence.job_id, FINAL)

    assert (await row_of(observer, claim.fence.job_id))["event_pending"] is False


async def test_fences_are_read_many_at_once_and_unknown_jobs_left_out(stores: Stores) -> None:
    running, queued = await claimed(stores), await accepted(stores)
    ids = [running.fence.job_id, queued.id]

    fences = await stores.attempts.read_fences([*ids, an_id()])

    assert set(fences) == set(ids)
    assert fences[queued.id].status is JobStatus.QUEUED
    assert (fences[ids[0]].attempt, fences[ids[0]].entry_id) == (1, running.delivery.entry_id)
    assert await stores.attempts.read_fences([]) == {}


async def test_many_endings_at_once_each_get_their_own_answer(
    stores: Stores, observer: Observer
) -> None:
    good = [await claimed(stores) for _ in range(20)]
    stale = [Fence(claim.fence.job_id, 9) for claim in good]

    answers = await asyncio.gather(
        *(
            stores.attempts.record_if_current(fence, Complete({"n": n}), EventId(1, n + 1))
            for n, pair in enumerate(zip(good, stale, strict=True))
            for fence in (pair[0].fence, pair[1])
        )
    )

    assert [each.applied for each in answers] == [True, False] * 20
    kept = await observer.connection.fetch("SELECT result FROM jobs ORDER BY created_at")
    assert [row["result"] for row in kept] == [f'{{"n": {n}}}' for n in range(20)]
