"""The events of a job, their ids, and how a reader follows them without a gap."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from service.domain.job import Job, JobStatus, JsonObject

_EVENT_ID = re.compile(r"(\d{1,10})-(\d{1,12})", re.ASCII)


class EventType(StrEnum):
    """Every event name a client can see; `connected` and `resync` carry no id."""

    CONNECTED = "connected"
    START = "start"
    ITERATION_START = "iteration:start"
    ITERATION_PROGRESS = "iteration:progress"
    ITERATION_RESET = "iteration:reset"
    ITERATION_COMPLETE = "iteration:complete"
    WAITING = "waiting"
    RETRYING = "retrying"
    COMPLETE = "complete"
    ERROR = "error"
    CANCELLED = "cancelled"
    RESYNC = "resync"

    @property
    def is_terminal(self) -> bool:
        """Whether no event of this generation follows."""
        return self in {EventType.COMPLETE, EventType.ERROR, EventType.CANCELLED}


@dataclass(frozen=True, slots=True, order=True)
class EventId:
    """`<attempt>-<seq>`, compared as a pair of numbers; seq starts at 1 in each attempt."""

    attempt: int
    seq: int

    def __str__(self) -> str:
        return f"{self.attempt}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "EventId | None":
        """Read an id as a client sends it back; anything else is None."""
        match = _EVENT_ID.fullmatch(text)
        return cls(int(match[1]), int(match[2])) if match else None


BEGINNING = EventId(0, 0)


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One durable event, with its id and its whole data."""

    id: EventId
    type: EventType
    data: JsonObject


def event_data(
    event_type: EventType, job_id: UUID, attempt: int, details: JsonObject
) -> JsonObject:
    """Return an event's data: `type`, `jobId` and `attempt` first, whatever the details say."""
    fixed = {"type": event_type.value, "jobId": str(job_id), "attempt": attempt}
    return {**fixed, **details, **fixed}


def coalesce_progress(earlier: JsonObject, later: JsonObject) -> JsonObject | None:
    """Merge two progress details of one iteration and phase, or return None if they differ."""
    same = all(earlier.get(key) == later.get(key) for key in ("iteration", "phase"))
    if not same:
        return None
    patches = [*earlier.get("patches", []), *later.get("patches", [])]
    return {**earlier, **later, "patches": patches}


def timestamp(moment: datetime) -> str:
    """Write a moment in UTC as events show it: RFC 3339, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def redriven_event(job: Job) -> JobEvent:
    """Return the event that begins a generation, from the row of a job just redriven."""
    event_type, available_at = EventType.RETRYING, timestamp(job.available_at)
    details = {"reason": "redrive", "code": "REDRIVEN", "availableAt": available_at}
    data = event_data(event_type, job.id, job.attempt, details)
    return JobEvent(EventId(job.attempt, 1), event_type, data)


def final_event(job: Job) -> JobEvent | None:
    """Return the terminal event of an ended job, from its row alone."""
    parsed = EventId.parse(job.final_event_id or "")
    if parsed is None or not job.status.is_terminal:
        return None
    event_type, details = _final_details(job)
    return JobEvent(parsed, event_type, event_data(event_type, job.id, parsed.attempt, details))


def _final_details(job: Job) -> tuple[EventType, JsonObject]:
    if job.status is JobStatus.COMPLETED:
        result = job.result or {}
        totals = {key: result.get(key) for key in ("tokenUsage", "costUsd")}
        return EventType.COMPLETE, {"result": result, **totals}
    if job.status is JobStatus.FAILED:
        return EventType.ERROR, dict(job.error or {})
    return EventType.CANCELLED, {}


class Tail:
    """One reader's place in a job's events: what is next, what is old, what is missing.

    Ids of one attempt are contiguous from 1, so a dropped message shows at once.
    """

    def __init__(self, cursor: EventId = BEGINNING) -> None:
        self.cursor = cursor

    def accepts(self, event_id: EventId) -> bool:
        """Whether the event may come next: it follows directly, or starts a later attempt.

        In a stream that is all there is to ask. Of a published event that starts an attempt it
        says nothing about how the attempt before ended: only the stream tells.
        """
        if event_id.attempt == self.cursor.attempt:
            return event_id.seq == self.cursor.seq + 1
        return event_id.attempt > self.cursor.attempt and event_id.seq == 1

    def is_old(self, event_id: EventId) -> bool:
        """Whether the reader has already seen that far."""
        return event_id <= self.cursor

    def advance(self, event_id: EventId) -> None:
        """Move on to an event that was delivered."""
        self.cursor = max(self.cursor, event_id)
