"""Claim and acknowledge: no job runs twice, and no entry goes that somebody needs."""

import pytest

from service.domain.job import JobStatus
from tests.fixtures.models import HeldModel
from tests.fixtures.waiting import eventually
from tests.integration.worker.watching import Watch
from tests.integration.worker.workplace import LONG_LEASE, Workplace, calling


async def pending_are(workplace: Workplace, count: int) -> None:
    """Return once so many entries are delivered and not acknowledged."""

    async def are() -> bool:
        return len(await workplace.streams.pending()) == count

    await eventually(are, what=f"{count} entries are pending")


async def test_a_claim_whose_reply_was_lost_is_claimed_again_by_the_same_worker(
    workplace: Workplace,
) -> None:
    watch = Watch()
    watch.unheard["claim"] = 2
    job_id = await workplace.submit("sleep", steps=2)

    async with workplace.worker(watch=watch, **LONG_LEASE):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
        await workplace.is_idle()

    job = await workplace.job(job_id)
    assert (job.attempt, job.crash_count, job.error_count) == (3, 0, 0)
    assert await workplace.terminal_events(job_id) == ["complete"]
    assert [ending for _, _, ending in await workplace.ledger(job_id)] == ["finished"] * 2


async def test_what_runs_here_is_skipped_when_pending_entries_are_read_again(
    workplace: Workplace,
) -> None:
    watch, model = Watch(), HeldModel()
    running = await workplace.submit()

    async with workplace.worker(calling(model), watch=watch, **LONG_LEASE):
        await eventually(model.at_work.is_set)
        # This delivery is not heard of, so that all pending entries are read again.
        watch.unheard["read"] = 1
        unheard = await workplace.submit("sleep")
        assert await workplace.ended(unheard) == [JobStatus.COMPLETED]
        assert watch.done.count("reread") >= 2
        model.released.set()
        assert await workplace.ended(running) == [JobStatus.COMPLETED]
        await workplace.is_idle()

    assert (await workplace.job(running)).attempt == 1
    assert (await workplace.job(unheard)).attempt == 1


async def test_two_entries_of_a_job_run_it_once_and_both_are_acknowledged(
    workplace: Workplace,
) -> None:
    job_id = await workplace.submit("sleep", steps=2, seconds=0.1)
    await workplace.ring(job_id)

    async with workplace.worker(**LONG_LEASE):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
        await workplace.is_idle()

    assert (await workplace.job(job_id)).attempt == 1
    assert await workplace.terminal_events(job_id) == ["complete"]


async def test_two_entries_of_a_job_found_pending_run_it_once(workplace: Workplace) -> None:
    watch = Watch()
    watch.unheard["read"] = 1
    job_id = await workplace.submit("sleep", steps=2, seconds=0.1)
    await workplace.ring(job_id)
    others = [await workplace.submit("sleep") for _ in range(4)]

    async with workplace.worker(watch=watch, concurrency=2, **LONG_LEASE):
        assert await workplace.ended(job_id, *others) == [JobStatus.COMPLETED] * 5
        await workplace.is_idle()

    assert (await workplace.job(job_id)).attempt == 1


async def test_a_second_entry_of_a_running_job_is_acknowledged_when_the_job_has_ended(
    workplace: Workplace,
) -> None:
    model = HeldModel()
    job_id = await workplace.submit()

    async with workplace.worker(calling(model), **LONG_LEASE):
        await eventually(model.at_work.is_set)
        await workplace.ring(job_id)
        await pending_are(workplace, 2)
        model.released.set()
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
        await workplace.is_idle()

    assert (await workplace.job(job_id)).attempt == 1


async def test_the_next_attempts_entry_may_come_while_the_last_one_is_still_acknowledged(
    workplace: Workplace,
) -> None:
    watch = Watch()
    watch.held["acknowledge"].clear()
    job_id = await workplace.submit("sleep", failures=1)

    async with workplace.worker(watch=watch, **LONG_LEASE):
        await eventually(lambda: "record" in watch.done)
        await eventually(workplace.relay().run_once, what="the retry is due")
        await pending_are(workplace, 2)
        assert watch.done.count("claim") == 1
        watch.held["acknowledge"].set()
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
        await workplace.is_idle()

    job = await workplace.job(job_id)
    assert (job.attempt, job.error_count) == (2, 1)


async def test_nothing_is_acknowledged_while_postgres_gives_no_verdict(
    workplace: Workplace,
) -> None:
    watch = Watch()
    watch.away["claim"] = 2
    jobs = [await workplace.submit("sleep") for _ in range(3)]

    async with workplace.worker(watch=watch, **LONG_LEASE):
        assert await workplace.ended(*jobs) == [JobStatus.COMPLETED] * 3
        before_claim = watch.done[: watch.done.index("claim")]
        await workplace.is_idle()

    assert "acknowledge" not in before_claim
    assert [(await workplace.job(each)).attempt for each in jobs] == [1] * 3


async def test_a_worker_that_postgres_does_not_answer_leaves_entries_to_others(
    workplace: Workplace,
) -> None:
    cut_off = Watch()
    cut_off.away["claim"] = 1_000_000
    job_id = await workplace.submit("sleep")

    async with workplace.worker(watch=cut_off, **LONG_LEASE) as first:
        await eventually(workplace.streams.pending)
        async with workplace.worker(**LONG_LEASE):
            assert await workplace.ended(job_id, within=8.0) == [JobStatus.COMPLETED]
            await workplace.is_idle()
        assert first.processors == []


@pytest.mark.parametrize("trouble", ["claim", "read"])
async def test_what_was_read_and_not_claimed_is_anothers_as_soon_as_the_worker_stops(
    workplace: Workplace, trouble: str
) -> None:
    leaving = Watch()
    faults = leaving.away if trouble == "claim" else leaving.unheard
    faults[trouble] = 1_000_000
    job_id = await workplace.submit("sleep")
    async with workplace.worker(watch=leaving, **LONG_LEASE):
        await pending_are(workplace, 1)

    async with workplace.worker(**LONG_LEASE):
        assert await workplace.ended(job_id, within=2.0) == [JobStatus.COMPLETED]
        await workplace.is_idle()

    assert (await workplace.job(job_id)).attempt == 1
