"""What each command and script does to the entries and to the events."""

from tests.models.moves import Scope
from tests.models.state import (
    ENDED,
    GONE,
    NO_ENTRY,
    NOBODY,
    Entry,
    EntryId,
    EventId,
    Log,
    State,
)

APPENDED = "appended"
FENCED = "fenced"
HOLE = "hole"


def add_entry(state: State, attempt: int) -> tuple[State, EntryId]:
    """XADD."""
    known = _entries_known(state)
    number = next(n for n in range(len(known) + 1) if (attempt, n) not in known)
    entry = Entry((attempt, number))
    return state._replace(entries=(*state.entries, entry)), entry.id


def _entries_known(state: State) -> set[EntryId]:
    """Every entry that somebody could still mean by its id."""
    known = {each.id for each in state.entries} | {each.entry for each in state.tasks}
    for worker in state.workers:
        if worker.hand is not None:
            known.add(worker.hand.entry)
        if worker.run is not None:
            known |= {worker.run.entry, worker.run.again}
    return (known | {state.row.entry}) - {NO_ENTRY}


def give(state: State, entry_id: EntryId, owner: int) -> State:
    """Make an entry pending for somebody."""
    return state._replace(
        entries=tuple(
            each._replace(owner=owner) if each.id == entry_id else each for each in state.entries
        )
    )


def acknowledge(
    state: State, entry_id: EntryId, consumer: int, *, only_if_owner: bool = True
) -> State:
    """Acknowledge and delete an entry if it is this consumer's."""
    if only_if_owner and state.owner(entry_id) != consumer:
        return state
    return lose(state, entry_id)


def append_events(
    state: State, first: EventId, last: EventId, ending: str, scope: Scope
) -> tuple[State, str]:
    """Append the events from first to last; the last one is terminal if it has an ending."""
    log, attempt, is_fenced = state.log, first[0], scope.rules.events_are_fenced
    if is_fenced and attempt < log.last[0]:
        return state, FENCED
    for seq in range(first[1], last[1] + 1):
        is_same = attempt == log.last[0]
        if is_fenced and is_same and seq <= log.last[1]:
            continue
        follows = seq == (log.last[1] + 1 if is_same else 1)
        is_end = bool(ending) and seq == last[1]
        # The end of a job is worth more than an unbroken history.
        may_leave_hole = is_end and scope.rules.end_may_leave_a_hole
        if is_fenced and not follows and not may_leave_hole:
            return _with_log(state, log), HOLE
        log = Log((attempt, seq), ending if is_end else "")
    return _with_log(state, log), APPENDED


def redrive_events(state: State, attempt: int) -> State:
    """Begin a generation's events, and trim those before it."""
    if attempt <= state.log.last[0]:
        return state
    return _with_log(state, Log((attempt, 1)))


def _with_log(state: State, log: Log) -> State:
    row = state.row
    is_end = bool(log.ending) and row.status in ENDED and log.last == row.final
    return state._replace(log=log, is_told=state.is_told or is_end)


def disown(state: State, worker: int) -> State:
    """Leave what a killed consumer had pending."""
    row = state.row
    return state._replace(
        row=row._replace(worker=GONE) if row.worker == worker else row,
        entries=tuple(
            each._replace(owner=GONE) if each.owner == worker else each for each in state.entries
        ),
    )


def lose(state: State, entry_id: EntryId) -> State:
    """Lose an entry, whoever has it."""
    kept = tuple(each for each in state.entries if each.id != entry_id)
    return state._replace(entries=kept)


def flush(state: State) -> State:
    """Lose everything."""
    return state._replace(entries=(), log=Log())


def is_undelivered(state: State, entry_id: EntryId) -> bool:
    """Whether an entry is still to come."""
    return state.owner(entry_id) == NOBODY


def is_pending(state: State, entry_id: EntryId) -> bool:
    """Whether somebody holds an entry."""
    return state.owner(entry_id) not in {None, NOBODY}
