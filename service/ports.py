"""The contracts between rooms that cannot see each other; bootstrap plugs them together."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from service.domain.attempt import Checkpoint, Claim, Delivery, Fence
from service.domain.dead_letters import DeadLetterPage, Redrive, Redriven
from service.domain.events import EventId, EventType, JobEvent
from service.domain.frames import Frame
from service.domain.job import Job, JobStatus, JsonObject, NewJob, Owner
from service.domain.transitions import Transition
from service.domain.usage import Usage, UsageMeter

# --- models and agents ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One call to a language model.

    `system` blocks go from the most widely shared to the most specific, so that an adapter
    can cache the prefix; `subject` says the same as the prose, for adapters that do not read.
    """

    purpose: str
    model: str
    system: tuple[str, ...]
    user: str
    schema: JsonObject
    max_output_tokens: int
    subject: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """A finished call: the whole text, why it stopped, and what it used."""

    text: str
    stop_reason: str
    usage: Usage
    model: str
    request_id: str | None = None


class Model(Protocol):
    """A language model behind an adapter."""

    @property
    def name(self) -> str:
        """The adapter's name: `anthropic` or `offline`."""
        ...

    def estimate_input_tokens(self, request: ModelRequest) -> int:
        """Estimate what the call will read, before it is made."""
        ...

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:
        """Price the usage by today's table; None when the price is unknown, never 0."""
        ...

    async def complete(
        self, request: ModelRequest, meter: UsageMeter, on_text: Callable[[str], None]
    ) -> ModelReply:
        """Make the call once, without retries, feeding text as it comes.

        Keeps `meter` up to date so that an aborted call can be booked; raises `ModelFailure`.
        Cancelling the task closes the connection.
        """
        ...


class Attempt(Protocol):
    """What an agent sees of the attempt that runs it."""

    @property
    def job(self) -> Job:
        """The job as claimed."""
        ...

    @property
    def checkpoints(self) -> Mapping[str, Checkpoint]:
        """Finished model calls of earlier attempts and of this one, by step."""
        ...

    def emit(self, event_type: EventType, details: JsonObject) -> None:
        """Queue a durable event, in order; never blocks and never fails the job."""
        ...

    async def pay_once(
        self, step: str, model: Model, request: ModelRequest, on_text: Callable[[str], None]
    ) -> Checkpoint:
        """Return the step's checkpoint, making its model call only if none is written down.

        Raises `ModelFailure`; is cancelled when the job is cancelled or lost.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPlan:
    """What an agent will do with an accepted submission."""

    iterations: tuple[str, ...]
    options: JsonObject
    estimated_tokens: int


class Agent(Protocol):
    """A worker of one kind of job, registered by name."""

    @property
    def name(self) -> str:
        """The value of a job's `agent`."""
        ...

    def plan(
        self, story: str, mode: str, iterations: Sequence[str] | None, options: JsonObject
    ) -> AgentPlan:
        """Check a submission and fill in its defaults; raises `InvalidInput`."""
        ...

    async def run(self, attempt: Attempt) -> JsonObject:
        """Do the work and return the result; raises `JobFailure`."""
        ...

    def snapshot(self, job: Job, checkpoints: Mapping[str, Checkpoint]) -> JsonObject:
        """Show the job as of its last checkpoint, without side effects.

        Keys: `iterations` (ids), `completed` (a list in the form of `iteration:complete`
        details), `current` (id or None), `story` (structured).
        """
        ...


# --- what workers and maintenance need of Postgres -----------------------------------------


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


class LeaseStore(Protocol):
    """Lease renewal in Postgres, from a loop of its own."""

    async def renew(self, worker_id: str, fences: Sequence[Fence], lease: float) -> set[Fence]:
        """Extend the leases and return those that are still this worker's."""
        ...


# --- what workers and maintenance need of Redis --------------------------------------------


class JobStream(Protocol):
    """The two job streams and their consumer group, as one consumer sees them."""

    async def read_new(self, count: int) -> list[Delivery]:
        """Wait briefly for new entries, the `again` stream first; raises `Unavailable`."""
        ...

    async def read_own_pending(self) -> list[Delivery]:
        """Read again what was delivered to this consumer and never acknowledged."""
        ...

    async def reclaim(self, count: int) -> list[Delivery]:
        """Take over entries whose consumer has been silent for longer than a lease."""
        ...

    async def acknowledge_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        """Acknowledge and delete the entries that are still this consumer's."""
        ...

    async def release_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        """Make this consumer's entries free to be reclaimed at once."""
        ...

    async def leave(self) -> None:
        """Remove this consumer from the group, unless entries are still pending for it."""
        ...


class EntryWriter(Protocol):
    """Puts jobs into the streams; an entry is only a doorbell."""

    async def add_entry(self, job_id: UUID, attempt: int, trace_parent: str | None) -> Delivery:
        """XADD once, without retries; first starts go to `jobs`, all others to `again`."""
        ...


class EntryLeases(Protocol):
    """Renewal of pending entries in Redis, from a loop of its own."""

    async def renew_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        """Reset the idle time of the entries that are still this consumer's."""
        ...


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
    """Published event frames, through one subscription connection per process."""

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


class Nudges(Protocol):
    """Hints that make others act now; losing one costs only time."""

    async def cancel(self, job_id: UUID) -> None:
        """Tell whoever runs the job that it was cancelled."""
        ...

    async def listen(self, on_cancel: Callable[[UUID], None]) -> None:
        """Hear cancellations until this task is cancelled."""
        ...


# --- what maintenance needs ------------------------------------------------------------------


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


# --- what the API needs of Postgres ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A committed job; `ring_now` says whether its entry may be added at once."""

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

    async def checkpoints(self, job_id: UUID) -> dict[str, Checkpoint]:
        """Read a job's finished model calls."""
        ...

    async def totals(self, job_id: UUID) -> Totals:
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

    async def redrive_owned(self, job_id: UUID, tenant_id: str, user_id: str | None) -> Redriven:
        """Queue one failed job of this owner again; raises `NotFound` and `JobNotFailed`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as stored: everything but its secret."""

    prefix: str
    key_hash: bytes
    owner: Owner
    name: str
    scopes: frozenset[str]
    tier: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


class ApiKeyStore(Protocol):
    """Hashed API keys."""

    async def find(self, prefix: str) -> ApiKey | None:
        """Look a key up by its public prefix."""
        ...

    async def touch(self, prefix: str) -> None:
        """Note that the key was used."""
        ...


class Readiness(Protocol):
    """One dependency's health."""

    async def __call__(self) -> None:
        """Return if it answers; raises `Unavailable`."""
        ...


Wake = Callable[[], None]
Probe = Callable[[], Awaitable[None]]
