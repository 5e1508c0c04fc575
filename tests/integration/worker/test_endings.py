"""Acknowledge last: commit, event, acknowledgement; a crash between any two is repaired."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from service.domain.errors import FailureKind, JobFailure, JobFinished, ModelFailure
from service.domain.job import JobStatus, JsonObject
from service.ports import Attempt
from service.streams import keys
from service.telemetry.metrics import REGISTRY
from tests.fixtures.models import HeldModel, ScriptedModel
from tests.fixtures.waiting import eventually
from tests.integration.worker.watching import Watch
from tests.integration.worker.workplace import Acting, Workplace, calling

LONG_LEASE: dict[str, Any] = {"lease": 60.0, "renew_every": 0.5}


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def failing(error: Exception) -> Acting:
    async def act(_: Attempt) -> JsonObject:
        raise error

    return Acting(act)


async def test_a_job_is_committed_then_told_then_acknowledged(workplace: Workplace) -> None:
    watch = Watch()
    job_id = await workplace.submit()

    async with workplace.worker(calling(ScriptedModel()), watch=watch):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
        await workplace.is_idle()

    order = [name for name in watch.done if name not in {"read", "reread", "release"}]
    assert order == ["claim", "open", "close", "record", "final", "clear", "acknowledge"]
    job = await workplace.job(job_id)
    (frame,) = await workplace.frames(job_id)
    assert str(frame.id) == job.final_event_id
    assert (await workplace.event(job_id, "complete"))["result"] == job.result


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_lost_reply_to_the_last_commit_is_recognised(
    workplace: Workplace, failures: int
) -> None:
    watch = Watch()
    watch.unheard["record"] = failures
    job_id = await workplace.submit("sleep", steps=2)
    fenced = counted("usa_writes_fenced_total", write="ending")

    async with workplace.worker(watch=watch, **LONG_LEASE):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
        await workplace.is_idle()

    assert (await workplace.job(job_id)).attempt == 1
    assert await workplace.terminal_events(job_id) == ["complete"]
    assert counted("usa_writes_fenced_total", write="ending") == fenced


async def test_a_lost_reply_to_a_retrys_commit_uses_up_one_error(workplace: Workplace) -> None:
    watch = Watch()
    watch.unheard["record"] = 2
    job_id = await workplace.submit("sleep", failures=1)

    async with workplace.worker(watch=watch, **LONG_LEASE):
        await eventually(lambda: watch.done.count("record") == 3)
        await workplace.is_idle()
        job = await workplace.job(job_id)
        assert (job.status, job.error_count, job.attempt) == (JobStatus.QUEUED, 1, 1)
        assert [frame.type for frame in await workplace.frames(job_id)][-1] == "retrying"
        await eventually(workplace.relay().run_once, what="the retry is due")
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]

    job = await workplace.job(job_id)
    assert (job.error_count, job.attempt) == (1, 2)


async def test_a_lost_reply_to_a_hand_backs_commit_hands_back_once(workplace: Workplace) -> None:
    watch = Watch()
    watch.unheard["record"] = 1
    model = HeldModel()
    job_id = await workplace.submit()

    async with workplace.worker(calling(model), watch=watch, shutdown_grace=0.1):
        await eventually(model.at_work.is_set)

    job = await workplace.job(job_id)
    assert (job.status, job.handback_count, job.error_count) == (JobStatus.QUEUED, 1, 0)
    assert len(await workplace.streams.entry_ids()) == 1


async def test_a_job_ends_without_redis_and_whoever_gets_its_entry_tells_of_it(
    workplace: Workplace,
) -> None:
    watch = Watch()
    watch.away["final"] = 1_000_000
    job_id = await workplace.submit("sleep")
    async with workplace.worker(watch=watch):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
    assert await workplace.terminal_events(job_id) == []
    assert len(await workplace.streams.pending()) == 1

    async with workplace.worker():
        await workplace.is_idle(within=8.0)

    assert await workplace.terminal_events(job_id) == ["complete"]


async def test_a_job_that_ended_without_redis_is_told_of_by_maintenance(
    workplace: Workplace,
) -> None:
    watch = Watch()
    watch.away["final"] = 1_000_000
    job_id = await workplace.submit("sleep")
    async with workplace.worker(watch=watch):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]

    reconciler = workplace.reconciler()

    async def is_told() -> bool:
        await reconciler.run_once()
        return await workplace.terminal_events(job_id) == ["complete"]

    await eventually(is_told, within=8.0)


async def test_a_lost_acknowledgement_costs_nothing_but_a_second_look(
    workplace: Workplace,
) -> None:
    watch = Watch()
    watch.away["acknowledge"] = 1
    lost = counted("usa_lazy_writes_lost_total", write="acknowledge")
    job_id = await workplace.submit("sleep")

    async with workplace.worker(watch=watch):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
        await workplace.is_idle(within=8.0)

    assert (await workplace.job(job_id)).attempt == 1
    assert await workplace.terminal_events(job_id) == ["complete"]
    assert counted("usa_lazy_writes_lost_total", write="acknowledge") == lost + 1


async def test_a_hand_back_without_redis_is_left_to_the_relay(workplace: Workplace) -> None:
    watch, model = Watch(), HeldModel()
    watch.away["add"] = 1_000_000
    job_id = await workplace.submit()

    async with workplace.worker(calling(model), watch=watch, shutdown_grace=0.1):
        await eventually(model.at_work.is_set)

    job = await workplace.job(job_id)
    assert (job.status, job.handback_count) == (JobStatus.QUEUED, 1)
    await workplace.is_idle()
    await eventually(workplace.relay().run_once)
    assert len(await workplace.streams.entry_ids()) == 1


async def test_a_handed_back_job_is_rung_for_in_the_stream_that_is_read_first(
    workplace: Workplace,
) -> None:
    model = HeldModel()
    job_id = await workplace.submit()

    async with workplace.worker(calling(model), shutdown_grace=0.1) as pool:
        await eventually(model.at_work.is_set)

    assert await workplace.streams.commands.xlen(keys.JOBS) == 0
    entries: Any = await workplace.streams.commands.xrange(keys.AGAIN)
    ((entry_id, fields),) = entries
    assert fields[b"job"].decode() == str(job_id)
    row = await workplace.observer.row("SELECT entry_id FROM jobs WHERE id = $1", job_id)
    assert row["entry_id"] == entry_id.decode()
    assert await workplace.ledger(job_id) == [(1, "draft", "aborted")]
    consumers = await workplace.streams.commands.xinfo_consumers(keys.JOBS, keys.GROUP)
    assert pool.worker_id.encode() not in [consumer["name"] for consumer in consumers]


# --- errors and budgets ------------------------------------------------------------------------


async def test_errors_are_retried_until_the_budget_is_used_up(workplace: Workplace) -> None:
    error = ModelFailure("MODEL_UNAVAILABLE", "busy", kind=FailureKind.TRANSIENT)
    job_id = await workplace.submit()
    relay = workplace.relay()

    async def has_ended() -> bool:
        await relay.run_once()
        return (await workplace.job(job_id)).status.is_terminal

    async with workplace.worker(failing(error)):
        await eventually(has_ended, within=15.0)
        await workplace.is_idle()

    job = await workplace.job(job_id)
    assert job.error is not None
    assert (job.status, job.error["code"]) == (JobStatus.FAILED, "ATTEMPTS_EXHAUSTED")
    assert (job.attempt, job.error_count, job.crash_count) == (3, 3, 0)
    types = [frame.type for frame in await workplace.frames(job_id)]
    assert types == ["retrying", "retrying", "error"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelFailure("MODEL_REFUSED", "no"), "MODEL_REFUSED"),
        (JobFailure("MODEL_OUTPUT_INVALID", "no"), "MODEL_OUTPUT_INVALID"),
        (ValueError("sk-ant-secret"), "PROCESSING_ERROR"),
    ],
)
async def test_some_errors_fail_the_job_at_once(
    workplace: Workplace, error: Exception, code: str
) -> None:
    job_id = await workplace.submit()

    async with workplace.worker(failing(error)):
        assert await workplace.ended(job_id) == [JobStatus.FAILED]
        await workplace.is_idle()

    job = await workplace.job(job_id)
    assert job.error is not None
    assert (job.error["code"], job.attempt) == (code, 1)
    assert "secret" not in str(job.error)
    assert (await workplace.event(job_id, "error"))["code"] == code


async def test_a_result_that_postgres_refuses_fails_the_job(workplace: Workplace) -> None:
    async def act(_: Attempt) -> JsonObject:
        return {"a set is no JSON": {1, 2}}

    job_id = await workplace.submit()

    async with workplace.worker(Acting(act)):
        assert await workplace.ended(job_id) == [JobStatus.FAILED]
        await workplace.is_idle()

    assert await workplace.terminal_events(job_id) == ["error"]


async def test_a_job_that_is_not_done_in_time_fails_and_its_call_is_closed(
    workplace: Workplace,
) -> None:
    job_id = await workplace.submit(deadline=1.0)

    async with workplace.worker(calling(HeldModel())):
        assert await workplace.ended(job_id, within=3.0) == [JobStatus.FAILED]
        await workplace.is_idle()

    job = await workplace.job(job_id)
    assert job.error is not None
    assert job.error["code"] == "DEADLINE_EXCEEDED"
    assert await workplace.ledger(job_id) == [(1, "draft", "aborted")]


async def test_no_call_stays_open_and_no_reservation_stays_however_jobs_end(
    workplace: Workplace,
) -> None:
    held = HeldModel()
    cancelled = await workplace.submit()
    jobs = [
        await workplace.submit("sleep", steps=2),
        await workplace.submit("sleep", failures=1, deadline=2.0),
        await workplace.submit("nobody", deadline=2.0),
        cancelled,
    ]
    relay, reconciler = workplace.relay(), workplace.reconciler()

    async def have_ended() -> bool:
        await relay.run_once()
        await reconciler.run_once()
        return all([(await workplace.job(each)).status.is_terminal for each in jobs])

    async with workplace.worker(calling(held), concurrency=4):
        await eventually(held.at_work.is_set)
        await workplace.stores.jobs.cancel_owned(cancelled, "acme", None)
        await workplace.connections.nudges.cancel(cancelled)
        await eventually(have_ended, within=10.0)
        await eventually(lambda: _nothing_is_open(workplace))


async def _nothing_is_open(workplace: Workplace) -> bool:
    open_calls = "SELECT count(*) FROM usage_records WHERE ending IS NULL"
    reserved = "SELECT sum(reserved_tokens) FROM jobs"
    return [await workplace.observer.value(query) for query in (open_calls, reserved)] == [0, 0]


async def test_endings_and_jobs_are_counted_once(workplace: Workplace) -> None:
    def figures() -> list[float]:
        return [
            counted("usa_attempts_ended_total", ending="completed"),
            counted("usa_attempts_ended_total", ending="retried"),
            counted("usa_jobs_ended_total", status="completed"),
            counted("usa_job_seconds_count", status="completed"),
        ]

    before = figures()
    job_id = await workplace.submit("sleep", failures=1)

    async with workplace.worker():
        await eventually(workplace.relay().run_once, what="the retry is due")
        await workplace.ended(job_id)
        await workplace.is_idle()

    assert [after - was for after, was in zip(figures(), before, strict=True)] == [1, 1, 1, 1]


# --- cancelling --------------------------------------------------------------------------------


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
