"""Time that passes: what becomes due, and which leases and entries nobody renews."""

from collections.abc import Iterator

from tests.models.moves import Move, Scope, spend
from tests.models.phases import ADDING, CLEARING, MARKING, READ, RING, TELL, TELLING
from tests.models.state import (
    GONE,
    NO_ENTRY,
    NOBODY,
    PROCESSING,
    QUEUED,
    EntryId,
    EventId,
    Fault,
    State,
    Worker,
)


def may_lease_be_over(state: State) -> bool:
    """Whether nobody renews the lease of the row, or will in time."""
    row = state.row
    if row.status != PROCESSING:
        return False
    if row.worker == GONE:
        return True
    worker = state.workers[row.worker]
    if worker.is_paused:
        return True
    runs = worker.run is not None and worker.run.attempt == row.attempt
    has_read = worker.hand is not None and worker.hand.stage == READ
    return not (runs or has_read or worker.must_reread)


def may_be_idle(state: State, entry_id: EntryId) -> bool:
    """Whether a pending entry may be taken over: nobody renews it, or will in time."""
    owner = state.owner(entry_id)
    if owner is None or owner == NOBODY:
        return False
    if owner == GONE:
        return True
    worker = state.workers[owner]
    if worker.is_paused:
        return True
    if worker.hand is not None and worker.hand.entry == entry_id:
        return False
    if worker.run is not None:
        return worker.run.entry != entry_id
    return not worker.must_reread


def is_being_told(state: State) -> bool:
    """Whether somebody awake is about to tell how the job ended."""
    final = state.row.final
    if any(task.kind == TELL and task.final == final for task in state.tasks):
        return True
    return any(_tells(worker, final) for worker in state.workers if not worker.is_paused)


def _tells(worker: Worker, final: EventId) -> bool:
    hand, run = worker.hand, worker.run
    if hand is not None and hand.final == final:
        return hand.stage in {TELLING, CLEARING}
    return run is not None and run.attempt == final[0] and run.phase in {TELLING, CLEARING}


def time_passes(state: State, scope: Scope) -> Iterator[Move]:
    """A retry becomes due; a job without an entry becomes the relay's."""
    row = state.row
    if row.status == QUEUED and not row.is_due:
        due = row._replace(is_due=True, relay_due=True)
        yield Move("the retry becomes due", state._replace(row=due))
    elif row.status == QUEUED and row.entry == NO_ENTRY and not row.relay_due:
        due = row._replace(relay_due=True)
        if not _is_being_rung(state):
            yield Move("the entry becomes the relay's to add", state._replace(row=due))
        elif scope.allows(state, Fault.DELAY):
            later = spend(state._replace(row=due), Fault.DELAY)
            yield Move(
                "whoever adds the entry is slow, so that it becomes the relay's",
                later,
                is_repair=False,
            )
    is_running = row.status in {QUEUED, PROCESSING}
    if is_running and not row.is_late and scope.allows(state, Fault.DEADLINE):
        late = spend(state._replace(row=row._replace(is_late=True)), Fault.DEADLINE)
        yield Move("the job's deadline passes", late, is_repair=False)


def _is_being_rung(state: State) -> bool:
    attempt = state.row.attempt
    if any(task.kind == RING and task.attempt == attempt for task in state.tasks):
        return True
    return any(
        worker.run is not None
        and worker.run.attempt == attempt
        and worker.run.phase in {ADDING, MARKING}
        and not worker.is_paused
        for worker in state.workers
    )
