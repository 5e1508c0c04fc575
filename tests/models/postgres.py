"""What each statement does to the row, and what it answers."""

from tests.models.moves import Scope
from tests.models.state import (
    CANCELLED,
    ENDED,
    FAILED,
    NO_ENTRY,
    NO_EVENT,
    NOBODY,
    PROCESSING,
    QUEUED,
    EntryId,
    EventId,
    Row,
)

TERMINAL = "terminal"
FAILED_FOR_GOOD = "failed"
NOT_DUE = "not due"
LEASED = "leased"
LEASED_THROUGH_ANOTHER_ENTRY = "leased through another entry"
STARTED = "started"
TAKEN_OVER = "taken over"


def insert_job(*, ring_now: bool) -> Row:
    """Accept the job; the relay adds its entry unless that is done at once."""
    return Row(status=QUEUED, relay_due=not ring_now)


def claim_jobs(
    row: Row, entry: EntryId, worker: int, scope: Scope, *, lease_is_over: bool
) -> tuple[Row, str]:
    """Judge a delivery, and start the job if it is claimable."""
    rules = scope.rules
    if row.status in ENDED and rules.claim_respects_ends:
        return row, TERMINAL
    if row.status != PROCESSING:
        return _claim_queued(row, entry, worker, scope)
    if row.worker == worker and rules.own_row_is_claimable:
        return _started(row, entry, worker, scope), STARTED
    if lease_is_over or not rules.claim_respects_leases:
        return _claim_expired(row, entry, worker, scope)
    return row, LEASED if row.entry == entry else LEASED_THROUGH_ANOTHER_ENTRY


def _claim_queued(row: Row, entry: EntryId, worker: int, scope: Scope) -> tuple[Row, str]:
    if row.is_late:
        return _forced(row, FAILED), FAILED_FOR_GOOD
    if not row.is_due:
        return row, NOT_DUE
    return _started(row, entry, worker, scope), STARTED


def _claim_expired(row: Row, entry: EntryId, worker: int, scope: Scope) -> tuple[Row, str]:
    if row.is_late:
        return _forced(row, FAILED), FAILED_FOR_GOOD
    crashed = row._replace(crashes=row.crashes + 1)
    if crashed.crashes >= scope.max_crashes:
        return _forced(crashed, FAILED), FAILED_FOR_GOOD
    return _started(crashed, entry, worker, scope), TAKEN_OVER


def _started(row: Row, entry: EntryId, worker: int, scope: Scope) -> Row:
    more = 1 if scope.rules.claim_adds_to_attempt or row.attempt == 0 else 0
    return row._replace(
        status=PROCESSING, attempt=row.attempt + more, worker=worker, entry=entry, relay_due=False
    )


def _forced(row: Row, status: str) -> Row:
    """End the job from outside of any attempt."""
    attempt = row.attempt + 1
    return _ended(row._replace(attempt=attempt), status, (attempt, 1))


def _ended(row: Row, status: str, final: EventId) -> Row:
    # Whatever nobody reads of an ended job is left out, so that fewer states differ.
    return row._replace(
        status=status,
        final=final,
        owes_event=True,
        worker=NOBODY,
        entry=NO_ENTRY,
        crashes=0,
        errors=0,
        is_due=True,
        relay_due=False,
        is_late=False,
    )


def abandon_calls(row: Row, before: int) -> Row:
    """Write off what attempts before this one have left open."""
    return row._replace(open_calls=tuple(call for call in row.open_calls if call[0] >= before))


def open_call(row: Row, attempt: int, step: int) -> tuple[Row, bool]:
    """Write down that a call is about to be made, if the attempt is current."""
    if not is_current(row, attempt):
        return row, False
    return row._replace(open_calls=tuple(sorted({*row.open_calls, (attempt, step)}))), True


def close_call(
    row: Row, attempt: int, step: int, scope: Scope, *, with_reply: bool
) -> tuple[Row, bool]:
    """Book a call, always; keep its reply if the attempt is current."""
    is_kept = is_current(row, attempt)
    booked = tuple(call for call in row.open_calls if call != (attempt, step))
    row = row._replace(open_calls=booked)
    may_keep = is_kept or not scope.rules.checkpoint_is_fenced
    if with_reply and may_keep and row.saved == step:
        row = row._replace(saved=step + 1, crashes=0)
    return row, is_kept or may_keep


def record_if_current(
    row: Row, attempt: int, status: str, final: EventId, scope: Scope, *, errors: int = 0
) -> tuple[Row, bool]:
    """Write how an attempt ended; answers whether that is how the row stands."""
    rules = scope.rules
    if is_current(row, attempt) or not rules.ending_is_fenced:
        if final != NO_EVENT:
            return _ended(row, status, final), True
        is_retry = errors > 0
        return _queued(row._replace(errors=row.errors + errors), is_due=not is_retry), True
    stands = (row.attempt, row.status, row.final) == (attempt, status, final)
    return row, stands and rules.ending_is_read_back


def is_current(row: Row, attempt: int) -> bool:
    """Whether an attempt may still write."""
    return row.status == PROCESSING and row.attempt == attempt


def _queued(row: Row, *, is_due: bool) -> Row:
    return row._replace(
        status=QUEUED,
        worker=NOBODY,
        entry=NO_ENTRY,
        is_due=is_due,
        relay_due=False,
    )


def mark_entry(row: Row, attempt: int, entry: EntryId, scope: Scope) -> Row:
    """Note where a queued job's entry is."""
    rules = scope.rules
    if row.status != QUEUED:
        return row
    if rules.mark_checks_attempt and row.attempt != attempt:
        return row
    if rules.mark_checks_that_none_is_there and row.entry != NO_ENTRY:
        return row
    return row._replace(entry=entry, relay_due=False)


def unmark_entry(row: Row, entry: EntryId) -> Row:
    """Forget a lost entry, so that the relay adds a new one."""
    if row.status != QUEUED or row.entry != entry:
        return row
    return row._replace(entry=NO_ENTRY, relay_due=row.is_due)


def recover_if_expired(row: Row, attempt: int, scope: Scope) -> Row:
    """Queue a job whose worker was lost, or fail it for good; the caller knows the lease."""
    if not is_current(row, attempt):
        return row
    row = row._replace(crashes=row.crashes + 1)
    if row.crashes >= scope.max_crashes:
        return _forced(row, FAILED)
    return _queued(row, is_due=True)._replace(relay_due=True)


def fail_overdue(row: Row) -> Row:
    """Fail a queued job whose deadline has passed."""
    return _forced(row, FAILED)


def cancel_owned_job(row: Row, scope: Scope) -> Row:
    """Cancel a job that has not ended."""
    if not scope.rules.cancel_adds_to_attempt:
        return _ended(row, CANCELLED, (row.attempt, 1))
    return _forced(row, CANCELLED)


def clear_event_pending(row: Row, final: EventId, scope: Scope) -> Row:
    """Note that this terminal event is in the stream."""
    if scope.rules.clearing_names_the_event and row.final != final:
        return row
    return row._replace(owes_event=False)


def redrive_failed_job(row: Row, scope: Scope) -> Row:
    """Queue a failed job again, with new budgets; what it has paid for is kept."""
    attempt = row.attempt + (1 if scope.rules.redrive_adds_to_attempt else 0)
    return Row(
        status=QUEUED, attempt=attempt, born=attempt, saved=row.saved, open_calls=row.open_calls
    )
