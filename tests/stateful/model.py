"""What Postgres promises, in memory: each answer of a store is compared with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from service.domain.attempt import Checkpoint, Claim, Delivery, Fence, Verdict
from service.domain.dead_letters import Redriven
from service.domain.events import EventId, JobEvent
from service.domain.job import Job, JobStatus, NewJob, Owner
from service.domain.transitions import Complete, Fail, HandBack, Retry, Transition
from service.ports.attempts import CallClosing, CallOpening, ClaimTerms, Recorded
from service.ports.events import Appended
from service.ports.jobs import Accepted
from tests.stateful.books import Books, Day

_DAY: Final = 86_400
_BEGINNING_IN_DAY: Final = 86_280
_VERDICTS: Final[Mapping[str, Verdict]] = {
    "start": Verdict.CLAIMED,
    "take_over": Verdict.CLAIMED,
    "overdue": Verdict.FAILED,
    "worker_lost": Verdict.FAILED,
}


@dataclass
class Row:
    """A job as its row should be; times in whole seconds since the beginning.

    `generation` is the attempt by which it was redriven last.
    """

    id: UUID
    owner: Owner
    available_at: int
    relay_after: int
    deadline_at: int
    reserved_tokens: int
    status: JobStatus = JobStatus.QUEUED
    attempt: int = 0
    error_count: int = 0
    crash_count: int = 0
    handback_count: int = 0
    worker_id: str | None = None
    entry_id: str | None = None
    lease_until: int | None = None
    completed_at: int | None = None
    final_event_id: str | None = None
    event_pending: bool = False
    planned_tokens: int = 0
    time_allowed: int = 0
    generation: int = 0
    checkpoints: dict[str, str] = field(default_factory=dict)

    def end(self, status: JobStatus, now: int, final: str | None = None) -> None:
        """Move to a terminal status, by a new attempt unless its own names the final event."""
        if final is None:
            self.attempt += 1
            final = f"{self.attempt}-1"
        self.status, self.completed_at, self.final_event_id = status, now, final
        self.event_pending, self.reserved_tokens, self.lease_until = True, 0, None

    def queue(self, available_at: int, relay_after: int) -> None:
        """Wait for the next attempt, without an entry."""
        self.status, self.entry_id, self.lease_until = JobStatus.QUEUED, None, None
        self.available_at, self.relay_after = available_at, relay_after


@dataclass
class Model:
    """Learns what took effect, in order, and notes each answer that it would not have given.

    `is_late` is true while something takes effect that followed from what was so long ago;
    `begun` are the events that begin the generations of redriven jobs.
    """

    user_in_stream: int
    now: int = 0
    server_started: int = -60
    rows: dict[UUID, Row] = field(default_factory=dict)
    keys: dict[tuple[Owner, str], tuple[UUID, bytes | None]] = field(default_factory=dict)
    books: Books = field(default_factory=Books)
    endings: list[tuple[Fence, Transition, EventId | None]] = field(default_factory=list)
    purged: set[UUID] = field(default_factory=set)
    sealed: set[UUID] = field(default_factory=set)
    begun: dict[UUID, EventId] = field(default_factory=dict)
    is_late: bool = False
    surprises: list[str] = field(default_factory=list)

    @property
    def today(self) -> Day:
        """Days since the beginning, which is shortly before midnight."""
        return (self.now + _BEGINNING_IN_DAY) // _DAY

    def expect(self, what: str, answer: object, expected: object) -> None:
        """Note an answer that is not the expected one."""
        if answer != expected:
            self.surprises.append(f"{what}: {answer!r}, expected {expected!r}")

    def is_current(self, fence: Fence) -> bool:
        """Whether an attempt may still write."""
        row = self.rows.get(fence.job_id)
        return row is not None and (row.attempt, row.status) == (
            fence.attempt,
            JobStatus.PROCESSING,
        )

    # What follows has the names and the arguments of the stores' methods, after the answer.

    def accept(self, answer: Accepted, job: NewJob) -> None:
        """A submission."""
        key = (job.owner, job.idempotency_key or "")
        if job.idempotency_key is not None and key in self.keys:
            self.expect(
                "same job again", (answer.job.id, answer.is_new), (self.keys[key][0], False)
            )
            return
        ring_now = self.undelivered(job.owner) < self.user_in_stream
        ahead = sum(row.status is JobStatus.QUEUED for row in self.rows.values())
        self.expect(
            "accepted",
            (answer.job.id, answer.is_new, answer.ring_now, answer.queue_position),
            (job.id, True, ring_now, ahead),
        )
        self.rows[job.id] = Row(
            id=job.id,
            owner=job.owner,
            available_at=self.now,
            relay_after=self.now + (3 if ring_now else 0),
            deadline_at=self.now + int(job.deadline_seconds),
            reserved_tokens=job.reserved_tokens,
            planned_tokens=job.reserved_tokens,
            time_allowed=int(job.deadline_seconds),
        )
        self.books.requests[job.owner, self.today] += 1
        if job.idempotency_key is not None:
            self.keys[key] = (job.id, job.fingerprint)

    def undelivered(self, owner: Owner) -> int:
        """How many entries a user has in the stream, or will have at once."""
        return sum(
            row.owner == owner
            and row.status is JobStatus.QUEUED
            and (
                row.entry_id is not None
                or (row.relay_after > self.now and row.available_at <= self.now)
            )
            for row in self.rows.values()
        )

    def cancel_owned(self, answer: Job, job_id: UUID, *_: object) -> None:
        """A cancellation; one that comes too late raises instead."""
        row = self.rows[job_id]
        if not row.status.is_terminal:
            row.end(JobStatus.CANCELLED, self.now)
        self.expect(
            "cancelled",
            (answer.status, answer.attempt, answer.final_event_id),
            (row.status, row.attempt, row.final_event_id),
        )

    def redrive_owned(self, answer: Redriven, job_id: UUID, *_: object) -> None:
        """A failed job begins anew, with what it was accepted with and what is paid already."""
        row = self.rows[job_id]
        self.expect("redriven", row.status, JobStatus.FAILED)
        ring_now = self.undelivered(row.owner) < self.user_in_stream
        row.queue(self.now, self.now + (3 if ring_now else 0))
        row.attempt = row.generation = row.attempt + 1
        row.error_count = row.crash_count = row.handback_count = 0
        row.completed_at, row.final_event_id, row.event_pending = None, None, False
        row.reserved_tokens, row.deadline_at = row.planned_tokens, self.now + row.time_allowed
        self.expect("redriven", (answer.job.attempt, answer.ring_now), (row.attempt, ring_now))

    def purge_owned(self, _: None, job_id: UUID, *__: object) -> None:
        """An ended job is gone, and what was spent on it stays written down."""
        row = self.rows.pop(job_id)
        self.expect("purged an ended job", row.status.is_terminal, True)
        self.keys = {key: bound for key, bound in self.keys.items() if bound[0] != job_id}
        self.purged.add(job_id)

    def seal(self, _: None, job_id: UUID, *__: object) -> None:
        """Nobody can tell anything of a job any more."""
        self.sealed.add(job_id)

    def redrive(self, answer: Appended, job_id: UUID, event: JobEvent, _: float) -> None:
        """Everything that is told of a job from now on is of its new generation."""
        if answer.is_complete:
            self.begun[job_id] = event.id

    def acknowledge_if_owner(self, answer: int, deliveries: Sequence[Delivery]) -> None:
        """Entries are gone that no job needs, at this very moment."""
        for each in deliveries if answer == len(deliveries) and not self.is_late else ():
            row = self.rows.get(each.job_id)
            if row is not None and not row.status.is_terminal:
                is_needed = row.entry_id == each.entry_id
                self.expect(f"{each} is acknowledged and needed", is_needed, False)

    def claim(
        self, answer: Sequence[Claim], deliveries: Sequence[Delivery], terms: ClaimTerms
    ) -> None:
        """Verdicts, judged in the order of ids."""
        first = {d.job_id: index for index, d in reversed(list(enumerate(deliveries)))}
        allowed = terms.suspects_allowed
        for job_id in sorted(first):
            claim, row = answer[first[job_id]], self.rows.get(job_id)
            ruling = self._ruling(row, claim.delivery.entry_id, terms)
            if row is not None and ruling in {"start", "take_over"}:
                is_suspect = row.crash_count > 0 or ruling == "take_over"
                allowed -= is_suspect
                if is_suspect and allowed < 0:
                    ruling = "suspect_held"
            self.expect(
                f"claim of {job_id}", claim.verdict, _VERDICTS.get(ruling) or Verdict(ruling)
            )
            if row is not None:
                self._judge(row, ruling, claim, terms)
        beside = [c for i, c in enumerate(answer) if i not in first.values()]
        self.expect("started twice", [c for c in beside if c.verdict is Verdict.CLAIMED], [])

    def _ruling(self, row: Row | None, entry_id: str, terms: ClaimTerms) -> str:
        if row is None:
            return "missing"
        if row.status.is_terminal:
            return "terminal"
        if row.status is JobStatus.QUEUED:
            is_late, is_due = row.deadline_at <= self.now, row.available_at <= self.now
            return "overdue" if is_late else "start" if is_due else "not_due"
        if row.worker_id == terms.worker_id:
            return "start"
        if self.is_expired(row, int(terms.lease)):
            if row.deadline_at <= self.now:
                return "overdue"
            return "worker_lost" if row.crash_count + 1 >= terms.max_crashes else "take_over"
        return "leased" if row.entry_id == entry_id else "leased_through_another_entry"

    def is_expired(self, row: Row, lease: int, silence: int = 0) -> bool:
        """Whether a lease ended so long ago, and not only because Postgres was down."""
        return (
            row.lease_until is not None
            and row.lease_until + silence <= self.now
            and self.server_started + lease <= self.now
        )

    def _judge(self, row: Row, ruling: str, claim: Claim, terms: ClaimTerms) -> None:
        if ruling in {"overdue", "worker_lost"}:
            row.crash_count += ruling == "worker_lost"
            row.end(JobStatus.FAILED, self.now)
        if ruling not in {"start", "take_over"}:
            return
        row.status, row.attempt = JobStatus.PROCESSING, row.attempt + 1
        row.crash_count += ruling == "take_over"
        row.worker_id, row.entry_id = terms.worker_id, claim.delivery.entry_id
        row.lease_until = self.now + int(terms.lease)
        self.books.abandon(row.id, before=row.attempt)
        known = {step: checkpoint.text for step, checkpoint in claim.checkpoints.items()}
        self.expect("checkpoints of the claim", known, row.checkpoints)
        self.expect("attempt of the claim", claim.job and claim.job.attempt, row.attempt)

    def renew(
        self, answer: set[Fence], worker_id: str, fences: Sequence[Fence], lease: float
    ) -> None:
        """A renewal, however late."""
        kept = {
            fence
            for fence in fences
            if self.is_current(fence) and self.rows[fence.job_id].worker_id == worker_id
        }
        for fence in kept:
            self.rows[fence.job_id].lease_until = self.now + int(lease)
        self.expect("renewed", answer, kept)

    def record_if_current(
        self, answer: Recorded, fence: Fence, transition: Transition, final: EventId | None
    ) -> None:
        """How an attempt ended; told twice, it ended once."""
        self.endings.append((fence, transition, final))
        row, final_id = self.rows.get(fence.job_id), str(final) if final else None
        if row is None:
            self.expect("ending of nothing", (answer.applied, answer.status), (False, None))
            return
        if self.is_current(fence):
            self._end(row, transition, final_id)
        is_ours = (row.attempt, row.status, row.final_event_id) == (
            fence.attempt,
            _status_after(transition),
            final_id,
        )
        self.expect(
            f"{transition} of {fence}",
            answer,
            Recorded(
                applied=is_ours,
                status=row.status,
                attempt=row.attempt,
                entry_id=row.entry_id,
                final_event_id=row.final_event_id,
            ),
        )

    def _end(self, row: Row, transition: Transition, final: str | None) -> None:
        match transition:
            case Retry(delay):
                row.error_count += 1
                row.queue(self.now + int(delay), self.now + int(delay))
            case HandBack():
                row.handback_count += 1
                row.queue(self.now, self.now + 2)
            case _:
                row.error_count += isinstance(transition, Fail)
                row.relay_after = self.now
                row.end(_status_after(transition), self.now, final)

    def mark_entry(self, _: None, fence: Fence, entry_id: str) -> None:
        """Where a queued job's entry is, unless it has moved on or has another."""
        row = self.rows.get(fence.job_id)
        markable = (JobStatus.QUEUED, fence.attempt, None)
        if row is not None and (row.status, row.attempt, row.entry_id) == markable:
            row.entry_id = entry_id

    def clear_event_pending(self, _: None, job_id: UUID, event_id: EventId) -> None:
        """This final event is in its stream; one of a later generation may not be."""
        row = self.rows.get(job_id)
        if row is not None and row.final_event_id == str(event_id):
            row.event_pending = False

    def open_call(self, answer: bool, opening: CallOpening) -> None:
        """A call about to be paid, of a step that nobody has paid before."""
        is_current = self.is_current(opening.fence)
        self.expect("may be paid", answer, is_current)
        if is_current and self.books.open(opening, self.today):
            paid = opening.step in self.rows[opening.fence.job_id].checkpoints
            self.expect(f"{opening.step} is paid again", paid, False)

    def close_call(self, answer: bool, closing: CallClosing) -> None:
        """What a call used, and its checkpoint if its attempt is current."""
        is_current = self.is_current(closing.fence)
        self.expect("closed by the current attempt", answer, is_current)
        more = self.books.close(closing)
        if not is_current:
            return
        row = self.rows[closing.fence.job_id]
        if more is not None:
            row.reserved_tokens = max(0, row.reserved_tokens - more)
        if self._keep(row, closing.checkpoint) and more is not None:
            row.crash_count = 0

    @staticmethod
    def _keep(row: Row, checkpoint: Checkpoint | None) -> bool:
        if checkpoint is None or checkpoint.step in row.checkpoints:
            return False
        row.checkpoints[checkpoint.step] = checkpoint.text
        return True

    def totals(self, answer: Any, job_id: UUID) -> None:
        """What a job has cost."""
        calls = self.books.of_job(job_id)
        self.expect(
            "totals",
            (answer.calls, answer.usage.total),
            (len(calls), sum(call.usage.total for call in calls)),
        )


def _status_after(transition: Transition) -> JobStatus:
    match transition:
        case Complete():
            return JobStatus.COMPLETED
        case Fail():
            return JobStatus.FAILED
        case _:
            return JobStatus.QUEUED
