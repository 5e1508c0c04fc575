"""A paused queue: nobody starts a job, nothing else changes, and it costs no job anything."""

from collections.abc import MutableMapping
from typing import Any
from uuid import UUID

import pytest

from service.domain.job import Job, JobStatus
from service.ports.queue_control import Pause
from service.postgres.queue_control import PostgresQueueControl
from service.telemetry.metrics import REGISTRY
from tests.fixtures.models import HeldModel
from tests.fixtures.waiting import eventually
from tests.integration.worker.watching import Watch
from tests.integration.worker.workplace import LONG_LEASE, Workplace, calling

Logs = list[MutableMapping[str, Any]]

BY = "acme/root"


class Looks:
    """How often workers have asked whether the queue is paused."""

    def __init__(self) -> None:
        self.count = 0

    async def more(self, looks: int) -> None:
        """Return once they have asked so many times more."""
        wanted = self.count + looks
        await eventually(lambda: self.count >= wanted, within=15, what="workers look")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    counted = Looks()

    class Counting(PostgresQueueControl):
        async def current_pause(self) -> Pause | None:
            pause = await super().current_pause()
            counted.count += 1
            return pause

    monkeypatch.setattr("service.bootstrap.worker.PostgresQueueControl", Counting)
    # More often than in life, so that a test need not wait for it.
    monkeypatch.setattr("service.worker.pool._LOOK_EVERY", 0.1)
    return counted


def shown() -> float | None:
    return REGISTRY.get_sample_value("usa_paused")


async def is_untouched(workplace: Workplace, job_id: UUID) -> None:
    """No attempt was made, and its entry waits to be read."""
    job = await workplace.job(job_id)
    assert (job.status, job.attempt) == (JobStatus.QUEUED, 0)
    assert (job.error_count, job.crash_count, job.handback_count) == (0, 0, 0)


async def ended_at_once(workplace: Workplace, *jobs: UUID) -> list[Job]:
    """The jobs once they have ended, each by its first attempt and without a budget used."""
    assert set(await workplace.ended(*jobs)) == {JobStatus.COMPLETED}
    found = [await workplace.job(job_id) for job_id in jobs]
    for job in found:
        assert (job.attempt, job.error_count, job.crash_count) == (1, 0, 0)
        assert job.handback_count == 0
    return found


async def test_no_worker_starts_a_job_until_the_queue_is_resumed(
    workplace: Workplace, looks: Looks
) -> None:
    await workplace.stores.queue.pause(BY, None)
    before = await workplace.submit("noop")
    async with workplace.worker(), workplace.worker():
        await looks.more(4)
        during = await workplace.submit("noop")
        await looks.more(10)
        for job_id in (before, during):
            await is_untouched(workplace, job_id)
        assert not await workplace.streams.pending()
        assert shown() == 1

        await workplace.stores.queue.resume()

        await ended_at_once(workplace, before, during)
        assert shown() == 0
    await workplace.is_idle()


async def test_what_runs_goes_on_and_what_waits_is_not_started_after_it(
    workplace: Workplace, looks: Looks
) -> None:
    model = HeldModel()
    running = await workplace.submit()
    async with workplace.worker(calling(model), concurrency=1):
        await eventually(model.at_work.is_set)
        waiting = await workplace.submit()
        await workplace.stores.queue.pause(BY, "a test")
        await looks.more(3)

        model.released.set()
        await ended_at_once(workplace, running)
        await looks.more(10)

        await is_untouched(workplace, waiting)
        await workplace.stores.queue.resume()
        await ended_at_once(workplace, waiting)


async def test_what_was_read_as_the_pause_began_is_given_back_unclaimed(
    workplace: Workplace, looks: Looks
) -> None:
    watch = Watch()
    watch.late["read"].clear()
    job_id = await workplace.submit("noop")
    async with workplace.worker(watch=watch, **LONG_LEASE):
        await eventually(lambda: "read" in watch.done, what="the entry is read")
        assert len(await workplace.streams.pending()) == 1
        await workplace.stores.queue.pause(BY, None)
        await looks.more(3)

        watch.late["read"].set()

        await eventually(lambda: "release" in watch.done, what="the entry is released")
        await is_untouched(workplace, job_id)
        assert "claim" not in watch.done
        await workplace.stores.queue.resume()
        await ended_at_once(workplace, job_id)


async def test_jobs_fail_at_their_deadlines_as_ever(workplace: Workplace, looks: Looks) -> None:
    await workplace.stores.queue.pause(BY, None)
    job_id = await workplace.submit("noop", deadline=0.01)
    reconciler = workplace.reconciler()
    async with workplace.worker():

        async def end() -> list[str]:
            await reconciler.run_once()
            return await workplace.terminal_events(job_id)

        assert await eventually(end, within=15, what="it fails") == ["error"]
        assert (await workplace.event(job_id, "error"))["code"] == "DEADLINE_EXCEEDED"

        await workplace.stores.queue.resume()
        await workplace.is_idle()


async def test_a_worker_tells_of_each_change_once(
    workplace: Workplace, looks: Looks, logged: Logs
) -> None:
    def told() -> list[str]:
        return [
            line["event"]
            for line in logged
            if line["event"] in {"worker_paused", "worker_resumed", "worker_started"}
        ]

    async with workplace.worker():
        await looks.more(3)
        await workplace.stores.queue.pause(BY, "a test")
        await looks.more(5)
        await workplace.stores.queue.resume()
        await looks.more(5)
        await workplace.stores.queue.pause(BY, "another")
        await looks.more(3)

    assert told() == ["worker_started", "worker_paused", "worker_resumed", "worker_paused"]
    [first, second] = [line for line in logged if line["event"] == "worker_paused"]
    assert (first["by"], first["reason"], second["reason"]) == (BY, "a test", "another")
