"""What a worker writes of the attempts that it runs: results, checkpoints, usage and leases."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from service.domain.attempt import Checkpoint, Claim, Delivery, Fence
from service.domain.events import EventId
from service.domain.job import Job, JobStatus, Owner
from service.domain.quota import TokenDay
from service.domain.transitions import Transition
from service.domain.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTerms:
    """Under which terms a worker claims; durations in seconds."""

    worker_id: str
    lease: float
    max_crashes: int
    suspects_allowed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Whether a guarded write took effect, and the job as it now stands."""

    applied: bool
    status: JobStatus | None
    attempt: int
    entry_id: str | None = None
    final_event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOpening:
    """A model call about to be made; `call` numbers the calls of one attempt from 1."""

    fence: Fence
    call: int
    owner: Owner
    step: str
    model: str
    estimated_input: int
    estimated_cost_usd: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallClosing:
    """How a model call ended; `checkpoint` is None unless it finished."""

    fence: Fence
    call: int
    model: str
    usage: Usage
    cost_usd: Decimal | None
    ending: str
    request_id: str | None
    checkpoint: Checkpoint | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a job has cost so far, by its ledger; cost is None if any price was unknown."""

    usage: Usage
    cost_usd: Decimal | None
    models: tuple[str, ...]
    calls: int


class AttemptStore(Protocol):
    """Guarded writes of one attempt; every one is fenced by (attempt, status)."""

    async def claim(self, deliveries: Sequence[Delivery], terms: ClaimTerms) -> list[Claim]:
        """Judge deliveries, one verdict each, in their order; raises `Unavailable`.

        However many of them are one job's, it is started at most once.
        """
        ...

    async def record_if_current(
        self, fence: Fence, transition: Transition, final_event_id: EventId | None
    ) -> Recorded:
        """Write how an attempt ended, unless it is no longer current.

        Repeating it after a lost reply is recognised as applied.
        """
        ...

    async def mark_entry(self, fence: Fence, entry_id: str) -> None:
        """Record where a queued job's entry is; lost marks are repaired by maintenance."""
        ...

    async def clear_event_pending(self, job_id: UUID, final_event_id: EventId) -> None:
        """Note that this terminal event is in the stream; one of a later generation stays owed."""
        ...

    async def get(self, job_id: UUID) -> Job | None:
        """Read one job, whoever owns it."""
        ...

    async def read_fences(self, job_ids: Sequence[UUID]) -> dict[UUID, Recorded]:
        """Read where jobs stand, many at once."""
        ...


class UsageLedger(Protocol):
    """One row per model call, opened before it is made and closed however it ends."""

    async def open_call(self, opening: CallOpening) -> bool:
        """Write the row down, unless the attempt is no longer current (False)."""
        ...

    async def close_call(self, closing: CallClosing) -> bool:
        """Book the usage always, and keep the checkpoint if the attempt is current.

        Returns whether it was current.
        """
        ...

    async def totals(self, job_id: UUID) -> Totals:
        """Sum up a job's ledger."""
        ...

    async def read_token_day(self, job_id: UUID) -> TokenDay | None:
        """Read how the day's tokens of the job's owner stand; None if nothing limits them."""
        ...


class LeaseStore(Protocol):
    """Lease renewal in Postgres, from a loop of its own."""

    async def renew(self, worker_id: str, fences: Sequence[Fence], lease: float) -> set[Fence]:
        """Extend the leases and return those that are still this worker's."""
        ...
