"""What must hold of every state and of every move, and what every state must be able to reach."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from tests.models.clock import may_be_idle
from tests.models.moves import Move, Scope
from tests.models.phases import CALLING, FENCED
from tests.models.redis import is_undelivered
from tests.models.state import (
    CANCELLED,
    COMPLETED,
    ENDED,
    FAILED,
    NO_ENTRY,
    NO_EVENT,
    NOBODY,
    QUEUED,
    Fault,
    State,
)

Holds: TypeAlias = Callable[[State, Move, Scope], bool]

# As it holds of every state, repairs that come in any fair order bring each job there.
CAN_END: Final = "by repairs alone, the job can end, its end be told, and nothing be left"


def is_at_rest(state: State) -> bool:
    """Whether there is nothing left to do."""
    row = state.row
    return (
        row.status in ENDED
        and not row.owes_event
        and not row.open_calls
        and not state.entries
        and state.is_told
    )


def _a_cancelled_job_never_completes(before: State, move: Move, scope: Scope) -> bool:
    return (before.row.status, move.state.row.status) != (CANCELLED, COMPLETED)


def _an_ended_job_changes_only_by_a_redrive(before: State, move: Move, scope: Scope) -> bool:
    was, row = before.row, move.state.row
    if was.status not in ENDED:
        return True
    if (was.status, row.status) == (FAILED, QUEUED):
        return row.attempt == was.attempt + 1
    return (was.status, was.attempt, was.final) == (row.status, row.attempt, row.final)


def _no_two_attempts_have_one_number(before: State, move: Move, scope: Scope) -> bool:
    running = [each.run.attempt for each in move.state.workers if each.run is not None]
    return len(running) == len(set(running))


def _what_is_written_down_is_not_paid_again(before: State, move: Move, scope: Scope) -> bool:
    opened = set(move.state.row.open_calls) - set(before.row.open_calls)
    return all(step >= before.row.saved for _, step in opened)


def _a_call_is_written_down_before_it_is_made(before: State, move: Move, scope: Scope) -> bool:
    row = move.state.row
    for worker in move.state.workers:
        run = worker.run
        if run is None or run.phase != CALLING:
            continue
        # Once its attempt is not current any more, the call may have been written off.
        is_current = row.status not in ENDED and row.attempt == run.attempt
        if is_current and (run.attempt, run.known) not in row.open_calls:
            return False
    return True


def _an_outcome_that_was_committed_is_known_as_ones_own(
    before: State, move: Move, scope: Scope
) -> bool:
    row = move.state.row
    return not any(
        each.run is not None
        and each.run.phase == FENCED
        and row.status == each.run.outcome
        and row.final[0] == each.run.attempt
        for each in move.state.workers
    )


def _only_lost_workers_use_up_the_crash_budget(before: State, move: Move, scope: Scope) -> bool:
    used = move.state.used
    return move.state.row.crashes <= used[Fault.CRASH] + used[Fault.PAUSE] + used[Fault.FLUSH]


def _acknowledged(before: State, move: Move) -> set[tuple[int, int]]:
    if move.worker < 0:  # lost with everything else
        return set()
    return {each.id for each in before.entries} - {each.id for each in move.state.entries}


def _an_entry_is_acknowledged_by_its_owner(before: State, move: Move, scope: Scope) -> bool:
    return all(before.owner(entry) == move.worker for entry in _acknowledged(before, move))


def _an_entry_is_acknowledged_when_nobody_needs_it(before: State, move: Move, scope: Scope) -> bool:
    row = before.row
    if row.status in ENDED or row.entry not in _acknowledged(before, move):
        return True
    # Between its judgement and now, after a pause, somebody may have claimed through the entry. If
    # that one is lost as well, its lease and the reconciler stand in for the entry.
    worker = before.workers[move.worker]
    judged = worker.run or worker.hand
    return judged is not None and judged.attempt < row.attempt


def _an_entry_is_not_taken_from_who_renews_it(before: State, move: Move, scope: Scope) -> bool:
    if move.worker < 0 or before.entries == move.state.entries:
        return True
    for each in before.entries:
        after = move.state.owner(each.id)
        is_taken = after is not None and after >= 0 and after != each.owner
        if is_taken and each.owner != NOBODY and not may_be_idle(before, each.id):
            return False
    return True


def _an_entry_still_to_come_is_not_forgotten(before: State, move: Move, scope: Scope) -> bool:
    was, row = before.row, move.state.row
    if was.status != QUEUED or was.entry == NO_ENTRY or was.entry == row.entry:
        return True
    is_same = (row.status, row.attempt) == (was.status, was.attempt)
    return not (is_same and is_undelivered(before, was.entry))


def _a_marked_entry_was_added_for_its_attempt(before: State, move: Move, scope: Scope) -> bool:
    row = move.state.row
    return row.status != QUEUED or row.entry == NO_ENTRY or row.entry[0] == row.attempt


def _entries_too_many_come_only_of_faults(before: State, move: Move, scope: Scope) -> bool:
    coming = sum(each.owner == NOBODY for each in move.state.entries)
    return coming <= 1 + sum(move.state.used)


def _event_ids_only_grow(before: State, move: Move, scope: Scope) -> bool:
    last = move.state.log.last
    return last >= before.log.last or last == NO_EVENT


def _nothing_of_a_generation_follows_its_end(before: State, move: Move, scope: Scope) -> bool:
    was, log = before.log, move.state.log
    if not was.ending or log == was or log.last == NO_EVENT:
        return True
    return log.last[0] > was.last[0]


def _a_terminal_event_is_that_of_the_row(before: State, move: Move, scope: Scope) -> bool:
    row, log = move.state.row, move.state.log
    if not log.ending or log.last[0] < row.born:
        return True
    return (row.status, row.final) == (log.ending, log.last)


def _an_end_is_owed_until_it_was_told(before: State, move: Move, scope: Scope) -> bool:
    row = move.state.row
    return row.status not in ENDED or row.owes_event or move.state.is_told


# By what they look at: as long as that stays as it is, they hold as they did.
_RULES: Final[Mapping[str, tuple[Holds, ...]]] = {
    "row": (
        _a_cancelled_job_never_completes,
        _an_ended_job_changes_only_by_a_redrive,
        _what_is_written_down_is_not_paid_again,
        _a_call_is_written_down_before_it_is_made,
        _an_outcome_that_was_committed_is_known_as_ones_own,
        _only_lost_workers_use_up_the_crash_budget,
        _an_entry_still_to_come_is_not_forgotten,
        _a_marked_entry_was_added_for_its_attempt,
        _a_terminal_event_is_that_of_the_row,
        _an_end_is_owed_until_it_was_told,
    ),
    "workers": (
        _no_two_attempts_have_one_number,
        _a_call_is_written_down_before_it_is_made,
        _an_outcome_that_was_committed_is_known_as_ones_own,
    ),
    "entries": (
        _an_entry_is_acknowledged_by_its_owner,
        _an_entry_is_acknowledged_when_nobody_needs_it,
        _an_entry_is_not_taken_from_who_renews_it,
        _entries_too_many_come_only_of_faults,
    ),
    "log": (
        _event_ids_only_grow,
        _nothing_of_a_generation_follows_its_end,
        _a_terminal_event_is_that_of_the_row,
    ),
}


def _name(rule: Holds) -> str:
    return rule.__name__.strip("_").replace("_", " ")


INVARIANTS: Final = (*sorted({_name(r) for rules in _RULES.values() for r in rules}), CAN_END)


def broken_by(before: State, move: Move, scope: Scope) -> str | None:
    """Return the invariant that a move breaks, if any."""
    for part, rules in _RULES.items():
        if getattr(before, part) is not getattr(move.state, part):
            for holds in rules:
                if not holds(before, move, scope):
                    return _name(holds)
    return None
