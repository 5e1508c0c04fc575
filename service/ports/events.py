"""The event stream of each job."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from service.domain.events import EventId, JobEvent
from service.domain.frames import Frame


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did: all events there (`complete`), refused, or a hole before them."""

    verdict: str
    last: EventId

    @property
    def is_complete(self) -> bool:
        """Whether every event is in the stream now."""
        return self.verdict == "appended"

    @property
    def is_fenced(self) -> bool:
        """Whether a later attempt has already written."""
        return self.verdict == "fenced"

    @property
    def has_hole(self) -> bool:
        """Whether events between `last` and the first given one are missing."""
        return self.verdict == "hole"


class EventLog(Protocol):
    """The event stream of each job."""

    async def append(self, job_id: UUID, events: Sequence[JobEvent], ttl: float) -> Appended:
        """Append and publish contiguous events in one step; repeating it has no effect.

        Keeps the stream for `ttl` more seconds. Raises `Unavailable`.
        """
        ...

    async def redrive(self, job_id: UUID, event: JobEvent, ttl: float) -> Appended:
        """Append and publish what begins a generation, and forget those before; repeatable.

        Keeps the stream for `ttl` more seconds. Raises `Unavailable`.
        """
        ...

    async def read_after(self, job_id: UUID, cursor: EventId, limit: int) -> list[Frame]:
        """Return the events after the cursor, in order; empty when the stream is gone."""
        ...

    async def last_ids(self, job_ids: Sequence[UUID]) -> dict[UUID, EventId]:
        """Return the newest event id of each stream that still exists."""
        ...

    async def erase(self, job_id: UUID) -> None:
        """Take all events out of a job's stream, which goes on refusing their ids.

        Raises `Unavailable`.
        """
        ...

    async def seal(self, job_id: UUID, ttl: float) -> None:
        """Erase a job's events, and refuse every event of it for `ttl` seconds.

        Raises `Unavailable`.
        """
        ...


class EventFeed(Protocol):
    """Published event frames, through one subscription connection per process and shard."""

    async def subscribe(self, job_id: UUID) -> None:
        """Start receiving a job's frames; returns once Redis has confirmed it.

        Raises `Unavailable` while disconnected; the next reconnection subscribes to it as well.
        """
        ...

    async def unsubscribe(self, job_id: UUID) -> None:
        """Stop receiving a job's frames."""
        ...

    def frames(self) -> AsyncIterator[tuple[UUID, Frame] | None]:
        """Yield (job, frame) as they come, and None after every (re)connection."""
        ...
