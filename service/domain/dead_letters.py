"""Failed jobs, and what becomes of those that are redriven."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from service.domain.job import Job, JobStatus, JsonObject, Owner


@dataclass(frozen=True, slots=True)
class Redriven:
    """A job that is queued again; `ring_now` says whether its entry may be added at once."""

    job: Job
    ring_now: bool


@dataclass(frozen=True, slots=True)
class Redrive:
    """The jobs that are queued again, and where the others stand (None: there is no such job)."""

    redriven: tuple[Redriven, ...]
    others: Mapping[UUID, JobStatus | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A failed job as those see it who operate the queue: whose it is and why, not what it says."""

    id: UUID
    owner: Owner
    agent: str
    error: JsonObject
    attempt: int
    error_count: int
    crash_count: int
    handback_count: int
    created_at: datetime
    failed_at: datetime


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Failed jobs, newest first, and the cursor of the next page."""

    letters: tuple[DeadLetter, ...]
    next_cursor: tuple[datetime, UUID] | None
