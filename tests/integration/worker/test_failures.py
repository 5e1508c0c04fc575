"""Errors, budgets and deadlines: each ends a job in its own way, and leaves nothing open."""

import pytest

from service.domain.errors import FailureKind, JobFailure, ModelFailure
from service.domain.job import JobStatus, JsonObject
from service.ports.agent import Attempt
from service.telemetry.metrics import REGISTRY
from tests.fixtures.agents import Acting
from tests.fixtures.models import HeldModel
from tests.fixtures.waiting import eventually
from tests.integration.worker.workplace import Workplace, calling


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def failing(error: Exception) -> Acting:
    async def act(_: Attempt) -> JsonObject:
        raise error

    return Acting(act)


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
