"""Verdicts: no entry goes that somebody needs, and none stays that nobody needs."""

from typing import Any
from uuid import UUID

import pytest

from service.domain.attempt import Delivery, Verdict
from service.domain.events import EventId
from service.domain.job import JobStatus
from service.domain.transitions import Complete, Retry
from service.telemetry.metrics import REGISTRY
from tests.fixtures.factories import an_id, terms
from tests.fixtures.models import HeldModel, ScriptedModel
from tests.fixtures.waiting import eventually
from tests.integration.worker.watching import Watch
from tests.integration.worker.workplace import LONG_LEASE, Workplace, calling


def verdicts(verdict: Verdict) -> float:
    name = "usa_jobs_claimed_total"
    return REGISTRY.get_sample_value(name, {"verdict": verdict.value}) or 0.0


async def another_workers(workplace: Workplace, job_id: UUID, entry: Delivery) -> Any:
    """A job that a worker of which nothing is known runs under a live lease."""
    (claim,) = await workplace.stores.attempts.claim([entry], terms("stranger", lease=60.0))
    assert claim.verdict is Verdict.CLAIMED
    return claim


async def test_the_entry_of_an_ended_job_goes_after_its_terminal_event_is_there(
    workplace: Workplace,
) -> None:
    job_id = await workplace.accept()
    claim = await another_workers(workplace, job_id, Delivery("jobs", "1-0", job_id))
    # Its worker died right after the commit.
    await workplace.stores.attempts.record_if_current(
        claim.fence, Complete({"texts": []}), EventId(1, 1)
    )
    watch = Watch()
    await workplace.ring(job_id)

    async with workplace.worker(watch=watch, **LONG_LEASE):
        await workplace.is_idle()

    assert watch.done.index("final") < watch.done.index("clear") < watch.done.index("acknowledge")
    assert await workplace.terminal_events(job_id) == ["complete"]
    owed = "SELECT event_pending FROM jobs WHERE id = $1"
    assert await workplace.observer.value(owed, job_id) is False


async def test_the_entry_of_an_ended_job_stays_until_its_terminal_event_is_there(
    workplace: Workplace,
) -> None:
    job_id = await workplace.accept()
    claim = await another_workers(workplace, job_id, Delivery("jobs", "1-0", job_id))
    await workplace.stores.attempts.record_if_current(
        claim.fence, Complete({"texts": []}), EventId(1, 1)
    )
    watch = Watch()
    watch.away["final"] = 1
    entry = await workplace.ring(job_id)

    async with workplace.worker(watch=watch):
        await eventually(lambda: not watch.away["final"])
        assert await workplace.streams.entry_ids() == [entry.entry_id]
        # Silent for longer than a lease, it is looked at again.
        await workplace.is_idle(within=8.0)

    assert await workplace.terminal_events(job_id) == ["complete"]


async def test_an_entry_of_a_job_that_is_not_due_is_acknowledged(workplace: Workplace) -> None:
    job_id = await workplace.accept()
    claim = await another_workers(workplace, job_id, Delivery("jobs", "1-0", job_id))
    await workplace.stores.attempts.record_if_current(
        claim.fence, Retry(60.0, "MODEL_UNAVAILABLE", "busy"), None
    )
    await workplace.ring(job_id)

    async with workplace.worker(**LONG_LEASE):
        await workplace.is_idle()

    job = await workplace.job(job_id)
    assert (job.status, job.attempt) == (JobStatus.QUEUED, 1)


async def test_the_entry_through_which_another_worker_runs_a_job_stays(
    workplace: Workplace,
) -> None:
    job_id = await workplace.accept()
    entry = await workplace.ring(job_id)
    await another_workers(workplace, job_id, entry)
    leased = verdicts(Verdict.LEASED)

    async with workplace.worker(**LONG_LEASE):
        await eventually(lambda: verdicts(Verdict.LEASED) == leased + 1)

    assert await workplace.streams.entry_ids() == [entry.entry_id]
    assert (await workplace.job(job_id)).attempt == 1


async def test_another_entry_of_a_job_that_runs_elsewhere_is_acknowledged(
    workplace: Workplace,
) -> None:
    job_id = await workplace.accept()
    await another_workers(workplace, job_id, Delivery("jobs", "1-0", job_id))
    await workplace.ring(job_id)

    async with workplace.worker(**LONG_LEASE):
        await workplace.is_idle()

    assert (await workplace.job(job_id)).attempt == 1


@pytest.mark.parametrize(
    ("misfortune", "code"),
    [
        ("UPDATE jobs SET deadline_at = clock_timestamp()", "DEADLINE_EXCEEDED"),
        (
            "UPDATE jobs SET status = 'processing', attempt = 3, worker_id = 'lost',"
            " lease_until = clock_timestamp(), crash_count = 2",
            "WORKER_LOST",
        ),
    ],
)
async def test_a_job_that_fails_instead_of_starting_says_so_before_its_entry_goes(
    workplace: Workplace, misfortune: str, code: str
) -> None:
    watch = Watch()
    job_id = await workplace.submit()
    await workplace.observer.run(misfortune)

    # A short lease, because none counts as expired right after the server's start.
    async with workplace.worker(watch=watch, lease=0.4, renew_every=0.1):
        await workplace.is_idle(within=10.0)

    assert watch.done.index("final") < watch.done.index("acknowledge")
    assert (await workplace.job(job_id)).status is JobStatus.FAILED
    assert await workplace.terminal_events(job_id) == ["error"]
    assert (await workplace.event(job_id, "error"))["code"] == code


async def test_an_entry_of_an_erased_job_is_acknowledged(workplace: Workplace) -> None:
    await workplace.streams.entries.add_entry(an_id(), 0, None)

    async with workplace.worker(**LONG_LEASE):
        await workplace.is_idle()


async def test_verdicts_are_counted(workplace: Workplace) -> None:
    before = {verdict: verdicts(verdict) for verdict in Verdict}
    job_id = await workplace.submit("sleep")
    await workplace.streams.entries.add_entry(an_id(), 0, None)

    async with workplace.worker(**LONG_LEASE):
        await workplace.ended(job_id)
        await workplace.is_idle()

    added = {verdict: verdicts(verdict) - was for verdict, was in before.items()}
    assert {verdict: count for verdict, count in added.items() if count} == {
        Verdict.CLAIMED: 1,
        Verdict.MISSING: 1,
    }


async def crashed_before(workplace: Workplace, *job_ids: UUID) -> None:
    await workplace.observer.run(
        "UPDATE jobs SET crash_count = 1 WHERE id = ANY ($1::uuid[])", list(job_ids)
    )


async def test_a_process_runs_at_most_one_job_that_may_have_crashed_another(
    workplace: Workplace,
) -> None:
    model = HeldModel()
    suspects = [await workplace.submit() for _ in range(3)]
    await crashed_before(workplace, *suspects)
    harmless = await workplace.submit("sleep")

    async with workplace.worker(calling(model), **LONG_LEASE) as first:
        await eventually(model.at_work.is_set)
        assert await workplace.ended(harmless) == [JobStatus.COMPLETED]
        held = verdicts(Verdict.SUSPECT_HELD)
        await eventually(lambda: verdicts(Verdict.SUSPECT_HELD) >= held + 4, what="it is offered")
        assert len(first.processors) == 1
        async with workplace.worker(calling(model), **LONG_LEASE) as second:
            await eventually(lambda: second.processors, what="another process takes one")
            model.released.set()
            assert await workplace.ended(*suspects) == [JobStatus.COMPLETED] * 3
            await workplace.is_idle()

    assert [(await workplace.job(each)).attempt for each in suspects] == [1] * 3


async def test_a_job_that_has_finished_a_call_since_its_crash_is_no_suspect(
    workplace: Workplace,
) -> None:
    first, second = ScriptedModel(), HeldModel()
    suspects = [await workplace.submit() for _ in range(2)]
    await crashed_before(workplace, *suspects)

    async def act(attempt: Any) -> dict[str, Any]:
        await calling(first, "one").act(attempt)
        return await calling(second, "two").act(attempt)

    agent = calling(first)
    agent.act = act
    async with workplace.worker(agent, **LONG_LEASE) as pool:
        await eventually(lambda: len(pool.processors) == 2, what="both suspects run")
        second.released.set()
        assert await workplace.ended(*suspects) == [JobStatus.COMPLETED] * 2
