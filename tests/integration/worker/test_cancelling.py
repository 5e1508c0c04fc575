"""Cancelling: it races with completing, and one of them wins."""

import asyncio
from typing import Any
from uuid import UUID

from service.domain.errors import JobFinished
from service.domain.job import JobStatus, JsonObject
from service.ports.agent import Attempt
from service.telemetry.metrics import REGISTRY
from tests.fixtures.agents import Acting
from tests.fixtures.models import HeldModel, overloaded
from tests.fixtures.waiting import eventually
from tests.integration.worker.watching import Watch
from tests.integration.worker.workplace import Workplace, calling


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_completing_and_cancelling_race_a_hundred_times_and_one_of_them_wins(
    workplace: Workplace,
) -> None:
    jobs = [await workplace.accept() for _ in range(100)]
    go_on = {job_id: asyncio.Event() for job_id in jobs}
    running: list[UUID] = []

    async def act(attempt: Attempt) -> JsonObject:
        running.append(attempt.job.id)
        await go_on[attempt.job.id].wait()
        return {"text": "done"}

    async def race(number: int) -> bool:
        job_id, head_start = jobs[number], number / 2000
        go_on[job_id].set()
        await asyncio.sleep(head_start)
        try:
            await workplace.stores.jobs.cancel_owned(job_id, "acme", None)
        except JobFinished:
            return False
        await workplace.connections.nudges.cancel(job_id)
        return True

    async with workplace.worker(Acting(act), concurrency=100):
        for job_id in jobs:
            await workplace.ring(job_id)
        await eventually(lambda: len(running) == 100)
        was_cancelled = [
            won
            for start in range(0, 100, 10)
            for won in await asyncio.gather(*map(race, range(start, start + 10)))
        ]
        statuses = await workplace.ended(*jobs)
        await workplace.is_idle()

    assert [status is JobStatus.CANCELLED for status in statuses] == was_cancelled
    assert set(statuses) == {JobStatus.COMPLETED, JobStatus.CANCELLED}
    for job_id, status in zip(jobs, statuses, strict=True):
        # The API tells of the others.
        told = await workplace.terminal_events(job_id)
        assert told == (["complete"] if status is JobStatus.COMPLETED else [])


async def test_a_nudge_aborts_the_call_at_once(workplace: Workplace) -> None:
    model = HeldModel()
    job_id = await workplace.submit()
    slow: dict[str, Any] = {"lease": 60.0, "renew_every": 19.0}

    async with workplace.worker(calling(model), **slow) as pool:
        await eventually(model.at_work.is_set)
        await workplace.stores.jobs.cancel_owned(job_id, "acme", None)
        await workplace.connections.nudges.cancel(job_id)
        await eventually(lambda: not pool.processors, within=0.8)
        await workplace.is_idle()

    assert await workplace.ledger(job_id) == [(1, "draft", "aborted")]
    row = await workplace.observer.row(
        "SELECT input_tokens, output_tokens, estimated FROM usage_records"
    )
    assert tuple(row) == (70, 2, True)
    assert (await workplace.job(job_id)).status is JobStatus.CANCELLED


async def test_without_a_nudge_the_next_renewal_aborts_the_call(workplace: Workplace) -> None:
    model = HeldModel()
    job_id = await workplace.submit()

    async with workplace.worker(calling(model)) as pool:
        await eventually(model.at_work.is_set)
        await workplace.stores.jobs.cancel_owned(job_id, "acme", None)
        await eventually(lambda: not pool.processors, within=2.0)
        await workplace.is_idle()

    assert await workplace.ledger(job_id) == [(1, "draft", "aborted")]


async def test_a_false_nudge_is_ignored(workplace: Workplace) -> None:
    watch, model = Watch(), HeldModel()
    job_id = await workplace.submit()

    async with workplace.worker(calling(model), watch=watch):
        await eventually(model.at_work.is_set)
        await workplace.connections.nudges.cancel(job_id)
        await eventually(lambda: "fences" in watch.done)
        model.released.set()
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]

    assert await workplace.ledger(job_id) == [(1, "draft", "finished")]


async def test_a_nudge_says_nothing_about_the_next_attempt(workplace: Workplace) -> None:
    watch, first, second = Watch(), HeldModel(failure=overloaded()), HeldModel()
    watch.late["fences"].clear()
    job_id = await workplace.submit()

    async def act(attempt: Attempt) -> JsonObject:
        return await calling(first if attempt.job.attempt == 1 else second).act(attempt)

    async with workplace.worker(Acting(act), watch=watch):
        await eventually(first.at_work.is_set)
        await workplace.connections.nudges.cancel(job_id)
        # Postgres has answered, and the attempt that it was about ends before that is heard.
        await eventually(lambda: "fences" in watch.done)
        first.released.set()
        await eventually(workplace.relay().run_once, what="the retry is due")
        await eventually(second.at_work.is_set)
        watch.late["fences"].set()
        await eventually(lambda: "nudged" not in {t.get_name() for t in asyncio.all_tasks()})
        second.released.set()
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]

    assert await workplace.ledger(job_id) == [(1, "draft", "failed"), (2, "draft", "finished")]


async def test_a_nudge_that_cannot_be_verified_is_left_to_the_renewal(
    workplace: Workplace,
) -> None:
    watch, model = Watch(), HeldModel()
    watch.away["fences"] = 1
    job_id = await workplace.submit()

    async with workplace.worker(calling(model), watch=watch) as pool:
        await eventually(model.at_work.is_set)
        await workplace.stores.jobs.cancel_owned(job_id, "acme", None)
        await workplace.connections.nudges.cancel(job_id)
        await eventually(lambda: not pool.processors, within=2.0)

    assert (await workplace.job(job_id)).status is JobStatus.CANCELLED


async def test_a_renewal_never_aborts_the_recording_of_an_ended_job(workplace: Workplace) -> None:
    watch = Watch()
    watch.held["clear"].clear()
    job_id = await workplace.submit("sleep")
    renewed = counted("usa_lease_renewals_total", server="postgres", result="renewed")

    async with workplace.worker(watch=watch):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
        # Renewals that no longer know the job.
        await eventually(
            lambda: (
                counted("usa_lease_renewals_total", server="postgres", result="renewed")
                >= renewed + 2
            )
        )
        watch.held["clear"].set()
        await workplace.is_idle()

    assert await workplace.terminal_events(job_id) == ["complete"]
