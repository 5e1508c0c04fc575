"""The relay, and the reconciler: each row in steps, because anything may come between them."""

from collections.abc import Iterator

from tests.models import postgres, redis
from tests.models.clock import is_being_told, may_lease_be_over
from tests.models.moves import Move, Scope, spend
from tests.models.phases import FORGET, LISTED, LOST, NOT_COMING, RECOVER
from tests.models.state import ENDED, NO_ENTRY, QUEUED, Fault, State, Task
from tests.models.tasks import ring, tell


def relay(state: State, scope: Scope) -> Iterator[Move]:
    """Take the job when it is due for an entry, and put off its next turn."""
    row = state.row
    if row.status == QUEUED and row.entry == NO_ENTRY and row.relay_due:
        put_off = row._replace(relay_due=not scope.rules.relay_puts_off)
        taken = state._replace(row=put_off).with_task(None, ring(row.attempt))
        yield Move("a relay takes the job", taken)


def reconciler(state: State, scope: Scope) -> Iterator[Move]:
    """Look for what needs repair, one thing at a time, and go on with it."""
    working = [task for task in state.tasks if task.kind in {FORGET, RECOVER}]
    for task in working:
        yield from (_forget if task.kind == FORGET else _recover)(state, task, scope)
    if not working:
        yield from _look(state, scope)


def _look(state: State, scope: Scope) -> Iterator[Move]:
    row, rules = state.row, scope.rules
    if row.status in ENDED:
        yield from _look_at_ended(state, scope)
        return
    if row.status == QUEUED and row.is_late:
        failed = state._replace(row=postgres.fail_overdue(row))
        yield Move("the reconciler fails the overdue job", failed)
    if row.status == QUEUED and row.entry != NO_ENTRY and rules.reconciler_looks_for_entries:
        # Its view of the stream may be older than the entry, so any entry may be listed.
        stage = LISTED if rules.reconciler_asks_again else NOT_COMING
        listed = state.with_task(None, Task(FORGET, stage, row.attempt, row.entry))
        yield Move("the reconciler lists {entry} as perhaps lost", listed, entry=row.entry)
    if may_lease_be_over(state) and rules.reconciler_looks_for_leases:
        listed = state.with_task(None, Task(RECOVER, LISTED, row.attempt, row.entry))
        yield Move("the reconciler lists the job, whose lease is over", listed)


def _look_at_ended(state: State, scope: Scope) -> Iterator[Move]:
    row, rules = state.row, scope.rules
    if row.owes_event and rules.reconciler_looks_for_owed_events:
        telling = state.with_task(None, tell(state))
        if not is_being_told(state):
            yield Move("the reconciler lists the owed event", telling)
        elif scope.allows(state, Fault.DELAY):
            text = "whoever tells the end is slow, so that the reconciler lists the owed event"
            yield Move(text, spend(telling, Fault.DELAY), is_repair=False)
    if row.open_calls and rules.reconciler_looks_for_open_calls:
        written_off = state._replace(row=row._replace(open_calls=()))
        yield Move("the reconciler writes off the calls left open", written_off)


def _forget(state: State, task: Task, scope: Scope) -> Iterator[Move]:
    entry = task.entry
    if task.stage == LOST:
        row = postgres.unmark_entry(state.row, entry)
        forgotten = state._replace(row=row).with_task(task, None)
        yield Move("the reconciler forgets {entry}", forgotten, entry=entry)
        return
    if task.stage == LISTED:
        is_there, then = redis.is_undelivered(state, entry), NOT_COMING
        text = "the reconciler asks whether {entry} is still to come"
    else:
        is_there, then = redis.is_pending(state, entry), LOST
        text = "the reconciler asks whether somebody has {entry}"
    asked = state.with_task(task, None if is_there else task._replace(stage=then))
    yield Move(text, asked, entry=entry)


def _recover(state: State, task: Task, scope: Scope) -> Iterator[Move]:
    if task.stage == LOST:
        row = state.row
        if may_lease_be_over(state):
            row = postgres.recover_if_expired(row, task.attempt, scope)
        recovered = state._replace(row=row).with_task(task, None)
        yield Move("the reconciler recovers the job, unless it lives", recovered)
        return
    is_held = redis.is_pending(state, task.entry)
    asked = state.with_task(task, None if is_held else task._replace(stage=LOST))
    yield Move("the reconciler asks whether somebody has {entry}", asked, entry=task.entry)
    if is_held and scope.allows(state, Fault.DELAY):
        # A worker that does not reach Postgres may renew its entry for ever.
        silent = spend(state.with_task(task, task._replace(stage=LOST)), Fault.DELAY)
        text = "the lease is over for so long that {entry} does not count"
        yield Move(text, silent, entry=task.entry, is_repair=False)
