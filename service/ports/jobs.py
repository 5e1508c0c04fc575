"""Jobs as clients and operators see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from service.domain.attempt import Checkpoint, Fence
from service.domain.dead_letters import DeadLetterPage, Redrive, Redriven
from service.domain.events import EventId
from service.domain.job import Job, JobStatus, NewJob
from service.domain.tiers import Tier
from service.ports.attempts import Recorded, Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A committed job, without a result; `ring_now` says whether its entry may be added at once."""

    job: Job
    is_new: bool
    ring_now: bool
    queue_position: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs, newest first, and the cursor of the next page."""

    jobs: tuple[Job, ...]
    next_cursor: tuple[datetime, UUID] | None


class JobStore(Protocol):
    """Jobs as their owners see them; `owner.user_id` None means the whole tenant."""

    async def accept(self, job: NewJob) -> Accepted:
        """Commit a job; raises `IdempotencyConflict` or `Unavailable`."""
        ...

    async def get_owned(self, job_id: UUID, tenant_id: str, user_id: str | None) -> Job | None:
        """Read one job of this owner."""
        ...

    async def list_owned(
        self,
        tenant_id: str,
        user_id: str | None,
        status: JobStatus | None,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Page:
        """Read a page of this owner's jobs, newest first."""
        ...

    async def cancel_owned(self, job_id: UUID, tenant_id: str, user_id: str | None) -> Job:
        """Decide the race between cancelling and completing.

        Raises `NotFound` and `JobFinished`; cancelling twice gives the same job again.
        """
        ...

    async def purge_owned(self, job_id: UUID, tenant_id: str, user_id: str | None) -> None:
        """Decide the race between purging and redriving; the ledger stays.

        Raises `NotFound` and `JobNotEnded`.
        """
        ...

    async def checkpoints(self, job: Job) -> dict[str, Checkpoint]:
        """Read a job's finished model calls."""
        ...

    async def totals(self, job: Job) -> Totals:
        """Sum up a job's ledger."""
        ...

    async def read_fences(self, job_ids: Sequence[UUID]) -> dict[UUID, Recorded]:
        """Read where jobs stand, many at once."""
        ...

    async def mark_entry(self, fence: Fence, entry_id: str) -> None:
        """Record where a queued job's entry is."""
        ...

    async def clear_event_pending(self, job_id: UUID, final_event_id: EventId) -> None:
        """Note that this terminal event is in the stream; one of a later generation stays owed."""
        ...


class DeadLetterStore(Protocol):
    """Failed jobs, and their return to the queue with new budgets, keeping their checkpoints."""

    async def page(
        self, code: str | None, before: tuple[datetime, UUID] | None, limit: int
    ) -> DeadLetterPage:
        """Read a page of everybody's failed jobs, of one error code or of any."""
        ...

    async def redrive(self, job_ids: Sequence[UUID]) -> Redrive:
        """Queue those again that have failed, whoever owns them."""
        ...

    async def redrive_code(self, code: str, limit: int) -> list[Redriven]:
        """Queue jobs again that failed with this code, those first that failed first."""
        ...

    async def redrive_owned(
        self, job_id: UUID, tenant_id: str, user_id: str | None, tier: Tier
    ) -> Redriven:
        """Queue one failed job of this owner again, if his limits leave room for it.

        Raises `NotFound`, `JobNotFailed` and `LimitReached`.
        """
        ...
