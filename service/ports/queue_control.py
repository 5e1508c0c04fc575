"""How those who operate the queue see it, and stop and go on with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when no worker starts a job, who wanted it, and why."""

    since: datetime
    by: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounts:
    """How many jobs there are, and how many ended within the last hour.

    `oldest_queued` is in seconds since its submission. Of the queued ones `waiting` may not start
    yet, and `without_entry` have no entry: these, and those whose turn it is not.
    """

    queued: int
    waiting: int
    without_entry: int
    processing: int
    failed: int
    oldest_queued: float | None
    completed_last_hour: int
    failed_last_hour: int
    cancelled_last_hour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCounts:
    """What a job stream holds; `lag` is None where the server does not know it."""

    stream: str
    entries: int
    lag: int | None
    pending: int
    consumers: int


class PauseState(Protocol):
    """Whether workers may start jobs: one answer for all of them."""

    async def current_pause(self) -> Pause | None:
        """Return the pause under way."""
        ...


class QueueControl(PauseState, Protocol):
    """What those may do who operate the queue."""

    async def pause(self, by: str, reason: str | None) -> Pause:
        """Let no worker start another job; pausing again changes nothing."""
        ...

    async def resume(self) -> bool:
        """Let workers start jobs again; returns whether they were paused."""
        ...

    async def count_jobs(self) -> JobCounts:
        """Count the jobs that wait, run, have failed, or ended within the last hour."""
        ...


class StreamCounter(Protocol):
    """Looks into the job streams without changing anything."""

    async def count_entries(self) -> Sequence[StreamCounts]:
        """Describe each job stream; raises `Unavailable`."""
        ...
