"""What follows a committed decision, in the background: losing any of it costs only time."""

from collections.abc import Awaitable
from typing import TypeVar
from uuid import UUID

from service.api.dependencies import ApiDependencies
from service.domain.attempt import Fence
from service.domain.dead_letters import Redriven
from service.domain.errors import Unavailable
from service.domain.events import final_event, redriven_event
from service.domain.job import Job
from service.telemetry.logs import get_log
from service.telemetry.metrics import LOST_MARKS

_log = get_log(__name__)

Answer = TypeVar("Answer")


async def ring(to: ApiDependencies, job: Job) -> None:
    """Add an accepted job's entry and note where it is, or leave that to the relay."""
    added = to.entries.add_entry(job.id, job.attempt, job.trace_parent)
    entry = await _lazily("add_entry", job.id, added)
    if entry is None:
        to.wake_relay()
        return
    marked = to.jobs.mark_entry(Fence(job.id, job.attempt), entry.entry_id)
    await _lazily("mark_entry", job.id, marked)


async def announce_cancellation(to: ApiDependencies, job: Job) -> None:
    """Stop whoever runs the job and tell whoever watches it."""
    await _lazily("cancel_nudge", job.id, to.nudges.cancel(job.id))
    event = final_event(job)
    if event is None:
        raise AssertionError("a cancelled job has a final event")
    appending = to.events.append(job.id, [event], to.event_retention)
    appended = await _lazily("append_final_event", job.id, appending)
    if appended is not None and appended.is_complete:
        cleared = to.jobs.clear_event_pending(job.id, event.id)
        await _lazily("clear_event_pending", job.id, cleared)


async def seal_events(to: ApiDependencies, job_id: UUID) -> None:
    """Erase what somebody who is late has told of a purged job, and let nobody tell more."""
    await _lazily("seal_events", job_id, to.events.seal(job_id, to.event_retention))


async def announce_redrive(to: ApiDependencies, redriven: Redriven) -> None:
    """Tell whoever watches that the job begins anew, then ring for it unless it has to wait."""
    job = redriven.job
    ttl = (job.deadline_at - job.available_at).total_seconds() + to.event_retention
    await _lazily("redrive_events", job.id, to.events.redrive(job.id, redriven_event(job), ttl))
    if redriven.ring_now:
        await ring(to, job)


async def _lazily(write: str, job_id: UUID, act: Awaitable[Answer]) -> Answer | None:
    try:
        return await act
    except Unavailable as error:
        LOST_MARKS.labels(write=write).inc()
        _log.warning("left_to_maintenance", write=write, job=str(job_id), error=str(error))
        return None
