"""What maintenance finds and repairs."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from service.domain.attempt import Fence
from service.domain.job import Job


@dataclass(frozen=True, slots=True)
class DueJob:
    """A queued job that needs an entry."""

    fence: Fence
    trace_parent: str | None


@dataclass(frozen=True, slots=True)
class RecordedEntry:
    """A job and the entry its row names."""

    fence: Fence
    entry_id: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """How many lost jobs were queued again, and how many had crashed too often."""

    queued: int
    failed: int


class UpkeepStore(Protocol):
    """Bounded batches of rows that need an entry or a repair; `skip` leaves the first ones out."""

    async def take_relay_batch(self, user_in_stream: int, limit: int) -> list[DueJob]:
        """Take jobs due for an entry, fairly between users; nobody else gets them for 5 s."""
        ...

    def only_reconciler(self) -> AbstractAsyncContextManager[bool]:
        """Hold the lock that lets one reconciler work at a time, if it is free."""
        ...

    async def owing_events(self, limit: int, *, skip: int = 0) -> list[Job]:
        """List ended jobs whose terminal event may not be in their stream."""
        ...

    async def expired_leases(
        self, lease: float, limit: int, *, skip: int = 0
    ) -> list[RecordedEntry]:
        """List jobs whose worker has been silent for longer than its lease."""
        ...

    async def recover_if_expired(self, fences: Sequence[Fence], max_crashes: int) -> Recovered:
        """Queue lost jobs again, or fail those that have used up their crash budget."""
        ...

    async def fail_overdue(self, limit: int) -> int:
        """Fail queued jobs whose deadline has passed."""
        ...

    async def suspect_entries(
        self,
        *,
        started: bool,
        last_delivered: tuple[int, int],
        span: tuple[tuple[int, int], tuple[int, int]] | None,
        limit: int,
        skip: int = 0,
    ) -> list[RecordedEntry]:
        """List queued jobs whose entry was delivered or is not in the stream."""
        ...

    async def unmark_entries(self, entries: Sequence[tuple[UUID, str]]) -> int:
        """Forget lost entries, so that the relay adds new ones."""
        ...

    async def write_off_calls(self, limit: int) -> int:
        """Book the calls that nobody will close any more, because their jobs have ended."""
        ...


@dataclass(frozen=True, slots=True)
class StreamState:
    """How far a stream's group has read, and its first and last entry (None: empty)."""

    last_delivered: tuple[int, int]
    span: tuple[tuple[int, int], tuple[int, int]] | None


class PendingEntries(Protocol):
    """What the consumer group's bookkeeping says about recorded entries."""

    async def ensure_streams(self) -> bool:
        """Create what is missing; returns whether a stream, its group or everything was lost."""
        ...

    async def state(self, attempt: int) -> StreamState:
        """Describe the stream that entries of such an attempt are in."""
        ...

    async def undelivered(self, attempt: int, entry_ids: Sequence[str]) -> list[bool]:
        """Tell, for each entry of such an attempt's stream, whether it is still to come."""
        ...

    async def not_pending(self, entries: Sequence[tuple[int, str]]) -> list[bool]:
        """Tell, for each (attempt, entry id), whether nobody holds it."""
        ...


class RetentionStore(Protocol):
    """Bounded batches of rows that nobody needs any more; each call returns how many went."""

    def only_pruner(self) -> AbstractAsyncContextManager[bool]:
        """Hold the lock that lets one pruner work at a time, if it is free."""
        ...

    async def delete_ended_jobs(self, days: int, limit: int) -> int:
        """Delete jobs that ended more than so many days ago, never one that has not."""
        ...

    async def delete_expired_keys(self, limit: int) -> int:
        """Delete idempotency keys that no longer bind."""
        ...

    async def delete_old_calls(self, days: int, limit: int) -> int:
        """Delete closed ledger rows of more than so many days ago whose jobs are gone."""
        ...

    async def delete_old_days(self, days: int, limit: int) -> int:
        """Delete the sums of days more than so many days ago whose ledger rows are gone."""
        ...


class StreamLeftovers(Protocol):
    """What is left in the job streams and their group, and is nobody's."""

    async def remove_dead_consumers(self, idle: float) -> int:
        """Remove consumers without a pending entry, silent for so many seconds."""
        ...

    async def delete_stray_entries(self) -> int:
        """Delete entries that were delivered and are pending for nobody."""
        ...
