"""What maintenance may take, repair and leave alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from service.domain.attempt import Fence
from service.domain.job import Job, JobStatus
from service.ports.upkeep import DueJob, RecordedEntry, Recovered
from service.streams import keys
from tests.stateful.model import Model, Row

_ENTRY_COUNTS_FOR = 120


@dataclass
class UpkeepModel(Model):
    """Entries that are `pending` for somebody, or still `coming` in a stream, are not lost."""

    pending: set[str] = field(default_factory=set)
    coming: set[tuple[str, str]] = field(default_factory=set)

    def _queued(self) -> list[Row]:
        return [row for row in self.rows.values() if row.status is JobStatus.QUEUED]

    def take_relay_batch(self, answer: Sequence[DueJob], user_in_stream: int, _: int) -> None:
        """Each user's oldest, as many as he has room for."""
        taken = {due.fence for due in answer}
        due = [r for r in self._queued() if r.entry_id is None and r.relay_after <= self.now]
        for owner in {row.owner for row in due}:
            of_owner = sorted((r for r in due if r.owner == owner), key=lambda r: r.relay_after)
            room = max(0, user_in_stream - self.undelivered(owner))
            oldest = [row.relay_after for row in of_owner[:room]]
            relayed = [r.relay_after for r in of_owner if Fence(r.id, r.attempt) in taken]
            self.expect(f"relayed of {owner.user_id}", sorted(relayed), oldest)
        known = {Fence(row.id, row.attempt) for row in due}
        self.expect("relayed and not due", taken - known, set())
        for fence in taken & known:
            self.rows[fence.job_id].relay_after = self.now + 5

    def expired_leases(
        self, answer: Sequence[RecordedEntry], lease: float, _: int, *, skip: int = 0
    ) -> None:
        """Whoever has been silent for a while, and whether his entry still speaks for him."""
        expected = {
            (Fence(row.id, row.attempt), row.entry_id if self._entry_counts(row) else "")
            for row in self.rows.values()
            if self.is_expired(row, int(lease), silence=3)
        }
        self.expect("expired", {(each.fence, each.entry_id) for each in answer}, expected)

    def _entry_counts(self, row: Row) -> bool:
        return row.lease_until is not None and row.lease_until + _ENTRY_COUNTS_FOR > self.now

    def recover_if_expired(
        self, answer: Recovered, fences: Sequence[Fence], max_crashes: int
    ) -> None:
        """Jobs whose worker is lost, and whose entry nobody holds."""
        queued = failed = 0
        for fence in fences:
            row = self.rows.get(fence.job_id)
            if row is None or not self.is_current(fence) or not self.is_expired(row, 0):
                continue
            is_held = self._is_held(row) and not self.is_late
            self.expect(f"{fence} was recovered though its entry is held", is_held, False)
            row.crash_count += 1
            if row.crash_count < max_crashes:
                row.queue(self.now, self.now)
                queued += 1
            else:
                row.end(JobStatus.FAILED, self.now)
                failed += 1
        self.expect("recovered", answer, Recovered(queued, failed))

    def fail_overdue(self, answer: int, _: int) -> None:
        """Queued jobs past their deadline."""
        overdue = [row for row in self._queued() if row.deadline_at <= self.now]
        for row in overdue:
            row.end(JobStatus.FAILED, self.now)
        self.expect("overdue", answer, len(overdue))

    def unmark_entries(self, answer: int, entries: Sequence[tuple[UUID, str]]) -> None:
        """Entries that were lost, and only those."""
        forgotten = 0
        for job_id, entry_id in entries:
            row = self.rows.get(job_id)
            if row is None or (row.status, row.entry_id) != (JobStatus.QUEUED, entry_id):
                continue
            is_lost = self._is_lost(row) or self.is_late
            self.expect(f"{entry_id} was lost when it was forgotten", is_lost, True)
            row.entry_id, row.relay_after = None, row.available_at
            forgotten += 1
        self.expect("forgotten", answer, forgotten)

    def write_off_calls(self, answer: int, _: int) -> None:
        """Calls that ended jobs left open."""
        ended = {row.id for row in self.rows.values() if self._has_ended_for(row, 10)}
        written_off = sum(self.books.abandon(job_id) for job_id in ended | self.purged)
        self.expect("written off", answer, written_off)

    def left_to_repair(self, lease: int) -> list[Row]:
        """What one undisturbed round of repairs must not leave behind.

        A job that it queued again now, though it is overdue, is for the next.
        """
        return [
            row
            for row in self.rows.values()
            if (row in self._queued() and row.deadline_at <= self.now != row.available_at)
            or (row in self._queued() and row.available_at <= self.now and self._is_lost(row))
            or (self.is_expired(row, lease, silence=3) and not self._is_held(row))
            or (row.event_pending and self._has_ended_for(row, 2))
            or (self._has_ended_for(row, 10) and self.books.left_open(row.id))
        ]

    def _has_ended_for(self, row: Row, seconds: int) -> bool:
        return row.completed_at is not None and row.completed_at + seconds <= self.now

    def _is_held(self, row: Row) -> bool:
        return row.entry_id in self.pending and self._entry_counts(row)

    def _is_lost(self, row: Row) -> bool:
        is_coming = (keys.job_stream(row.attempt), row.entry_id) in self.coming
        return row.entry_id is not None and row.entry_id not in self.pending and not is_coming

    def owing_events(self, answer: Sequence[Job], _: int, *, skip: int = 0) -> None:
        """Ended jobs whose event may be missing."""
        rows = self.rows.values()
        owing = {row.id for row in rows if row.event_pending and self._has_ended_for(row, 2)}
        self.expect("owing", {job.id for job in answer}, owing)
