"""A job whose owner's tokens of the day are used up stops between two iterations, and goes on."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from service.domain.job import Job, JobStatus, JsonObject
from service.domain.tiers import UNLIMITED
from service.ports.agent import Attempt
from tests.fixtures.agents import Acting
from tests.fixtures.models import ScriptedModel
from tests.fixtures.waiting import eventually
from tests.integration.worker.workplace import Workplace, calling

# Three steps of 2 tokens each, for which 1000 were planned: 333 for one.
LIMITED = replace(UNLIMITED, tokens_per_day=1000)


async def test_it_waits_for_midnight_without_losing_time_or_tries_and_pays_nothing_again(
    workplace: Workplace,
) -> None:
    job_id = await workplace.submit("sleep", steps=3, tier=LIMITED)
    before = await workplace.job(job_id)
    # Something else used as much as leaves room for one step, but not for two.
    await use(workplace, job_id, 666)

    async with workplace.worker():
        waiting = await postponed(workplace, job_id)
        assert [step for _, step, _ in await workplace.ledger(job_id)] == ["step-1/draft"]
        # Recorded a moment after the time until midnight was read.
        assert timedelta(0) <= waiting.available_at - midnight() < timedelta(minutes=1)
        assert waiting.deadline_at - before.deadline_at >= midnight() - datetime.now(UTC)
        assert (waiting.error_count, waiting.crash_count, waiting.handback_count) == (0, 0, 0)
        told = await workplace.event(job_id, "waiting")
        assert told["reason"] == "quota"
        assert datetime.fromisoformat(told["until"]) - waiting.available_at < timedelta(seconds=1)

        await next_day(workplace, job_id)
        await workplace.relay().run_once()
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]

    assert await workplace.ledger(job_id) == [
        (1, "step-1/draft", "finished"),
        (2, "step-2/draft", "finished"),
        (2, "step-3/draft", "finished"),
    ]
    assert await workplace.terminal_events(job_id) == ["complete"]


async def test_one_whose_iteration_has_begun_finishes_it(workplace: Workplace) -> None:
    model = ScriptedModel()
    job_id = await workplace.submit(tier=LIMITED)

    job = await workplace.job(job_id)

    async def act(attempt: Attempt) -> JsonObject:
        # Others use up the rest of the day between the two calls of one iteration.
        found = await calling(model, "one/draft").act(attempt)
        await use(workplace, job.id, 100_000)
        await calling(model, "one/verify").act(attempt)
        return await calling(model, "two/draft").act(attempt) | found

    async with workplace.worker(Acting(act)):
        await postponed(workplace, job_id)

    assert model.called == ["one/draft", "one/verify"]


async def test_the_first_iteration_of_a_day_always_runs(workplace: Workplace) -> None:
    job_id = await workplace.submit("sleep", steps=1, tier=LIMITED)
    await workplace.observer.run(LIMIT, '{"tokens_per_day": 1}')

    async with workplace.worker():
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]


async def test_an_override_made_since_counts_and_one_of_none_lifts_the_limit(
    workplace: Workplace,
) -> None:
    job_id = await workplace.submit("sleep", steps=2, tier=LIMITED)
    await use(workplace, job_id, 100_000)
    await workplace.observer.run(LIMIT, '{"tokens_per_day": null}')

    async with workplace.worker():
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]


async def test_a_waiting_job_can_be_cancelled(workplace: Workplace) -> None:
    job_id = await workplace.submit("sleep", steps=1, tier=LIMITED)
    await use(workplace, job_id, 100_000)
    async with workplace.worker():
        await postponed(workplace, job_id)
        job = await workplace.job(job_id)
        owner = job.owner

        await workplace.stores.jobs.cancel_owned(job_id, owner.tenant_id, owner.user_id)

    assert (await workplace.job(job_id)).status is JobStatus.CANCELLED
    assert await workplace.ledger(job_id) == []


async def postponed(workplace: Workplace, job_id: UUID) -> Job:
    """The job once its first attempt is over and it is queued again."""

    async def look() -> Job | None:
        job = await workplace.job(job_id)
        return job if (job.status, job.attempt) == (JobStatus.QUEUED, 1) else None

    job = await eventually(look, within=10, what="the job is postponed")
    await workplace.is_idle()
    return job


async def test_an_entry_that_was_not_acknowledged_before_a_crash_starts_nothing(
    workplace: Workplace,
) -> None:
    job_id = await workplace.submit("sleep", steps=1, tier=LIMITED)
    await use(workplace, job_id, 100_000)
    async with workplace.worker():
        waiting = await postponed(workplace, job_id)

        await workplace.streams.entries.add_entry(job_id, waiting.attempt, None)
        await workplace.is_idle()

    assert await workplace.job(job_id) == waiting
    assert await workplace.ledger(job_id) == []


def midnight() -> datetime:
    """The end of this day."""
    return datetime.combine(datetime.now(UTC).date() + timedelta(days=1), time(), UTC)


async def use(workplace: Workplace, job_id: UUID, tokens: int) -> None:
    """Book tokens of this day that another job of the same user has used."""
    await workplace.observer.run(USE, job_id, tokens)


async def next_day(workplace: Workplace, job_id: UUID) -> None:
    """Let the day be over: what it was booked on is yesterday, and the job is due."""
    await workplace.observer.run("UPDATE daily_usage SET day = day - 1")
    await workplace.observer.run(
        "UPDATE jobs SET available_at = clock_timestamp(), relay_after = clock_timestamp()"
        " WHERE id = $1",
        job_id,
    )


USE = """
INSERT INTO daily_usage AS d (tenant_id, user_id, day, input_tokens)
SELECT tenant_id, user_id, (clock_timestamp() AT TIME ZONE 'UTC')::date, $2::bigint FROM jobs
WHERE id = $1
ON CONFLICT (tenant_id, user_id, day) DO UPDATE SET
  input_tokens = d.input_tokens + excluded.input_tokens
"""
LIMIT = """
INSERT INTO user_limits (tenant_id, user_id, overrides)
SELECT tenant_id, user_id, $1::text::jsonb FROM jobs
"""
