"""One attempt: its paid calls, its events, and how it is recorded."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from tests.models import postgres, redis
from tests.models.moves import Move, Scope, spend
from tests.models.phases import (
    ACKNOWLEDGING,
    ADDING,
    CALLING,
    CLEARING,
    CLOSING,
    FENCED,
    HANDED_BACK,
    MARKING,
    NEXT,
    RECORDING,
    REPORTING,
    RESUMING,
    RETRIED,
    TELLING,
)
from tests.models.state import (
    COMPLETED,
    ENDED,
    FAILED,
    NO_ENTRY,
    NO_EVENT,
    PROCESSING,
    QUEUED,
    EventId,
    Fault,
    Run,
    State,
)

Phase: TypeAlias = Callable[[State, int, Run, Scope], Iterator[Move]]

_RECORDED: Final = {
    COMPLETED: "{worker} commits that the job is completed",
    FAILED: "{worker} commits that the job has failed",
    RETRIED: "{worker} commits that the job is to be retried",
    HANDED_BACK: "{worker} commits that it hands the job back",
}


def attempt_goes_on(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    """What the attempt may do next."""
    yield from _PHASES[run.phase](state, name, run, scope)
    if not scope.rules.renewal_checks_owner and state.owner(run.entry) not in {None, name}:
        stolen = redis.give(state, run.entry, name)
        yield Move("{worker} renews {entry}, whoever has it", stolen, name, run.entry)


def _resume(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    row = postgres.abandon_calls(state.row, run.attempt)
    known = row.saved if scope.rules.checkpoints_are_read_after_claim else run.known
    ready = run._replace(base=known, known=known, phase=REPORTING)
    resumed = state._replace(row=row).with_run(name, ready)
    text = "{worker} writes off earlier calls and reads what is written down"
    yield Move(text, resumed, name)


def _report(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    """Append what there is to tell. What it pays next, and when, is nothing to the events."""
    told, answer = _append(state, run, (run.attempt, run.numbered), "", scope)
    on = _after_step(run, scope)
    if answer == redis.FENCED:
        text = "{worker} is refused its events"
        yield Move(text, state.with_run(name, on), name)
        return
    text = "{worker} appends its events"
    yield Move(text, told.with_run(name, on._replace(sent=run.numbered)), name)
    if scope.allows(state, Fault.LOSS):
        if told.log != state.log:
            unheard = spend(told, Fault.LOSS)
            yield Move(text + ", and does not hear it", unheard, name, is_repair=False)
        later = spend(state.with_run(name, on), Fault.LOSS)
        yield Move("{worker} cannot append its events yet", later, name, is_repair=False)


def _after_step(run: Run, scope: Scope) -> Run:
    if run.known < scope.steps:
        return run._replace(phase=NEXT)
    return _to_record(run, COMPLETED, scope)


def _to_record(run: Run, outcome: str, scope: Scope) -> Run:
    phase = RECORDING
    if outcome in ENDED and not scope.rules.event_follows_commit:
        phase = TELLING
    if not scope.rules.acknowledgement_follows_commit:
        phase = ACKNOWLEDGING
    return run._replace(phase=phase, outcome=outcome)


def _call(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    if not scope.rules.call_is_opened_before_it_is_made:
        calling = state.with_run(name, run._replace(phase=CALLING))
        yield Move("{worker} makes its next call", calling, name)
        return
    row, is_open = postgres.open_call(state.row, run.attempt, run.known)
    opened = state._replace(row=row)
    if not is_open:
        # Of an opening that went through unheard, the row is there.
        row, _ = postgres.close_call(row, run.attempt, run.known, scope, with_reply=False)
        fenced = state._replace(row=row).with_run(name, run._replace(phase=FENCED))
        yield Move("{worker} is refused its next call", fenced, name)
        return
    calling = opened.with_run(name, run._replace(phase=CALLING))
    yield Move("{worker} opens its next call and makes it", calling, name)
    if row != state.row and scope.allows(state, Fault.LOSS):
        text = "{worker} opens its next call, and does not hear it"
        yield Move(text, spend(opened, Fault.LOSS), name, is_repair=False)
    yield from _interrupted(state, name, run, scope)


def _finish_call(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    yield from _close(state, name, run, scope)
    if not postgres.is_current(state.row, run.attempt):
        aborted = _closed(state, run, scope).with_run(name, run._replace(phase=FENCED))
        yield Move("{worker} hears that the job is not its own, and aborts its call", aborted, name)
    if scope.allows(state, Fault.ERROR):
        closed = spend(_closed(state, run, scope), Fault.ERROR)
        errors = state.row.errors + 1
        outcome = FAILED if errors >= scope.max_errors else RETRIED
        failed = closed.with_run(name, _to_record(run, outcome, scope))
        yield Move("{worker}'s call fails", failed, name, is_repair=False)
    yield from _interrupted(state, name, run, scope)


def _close(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    row, is_kept = postgres.close_call(state.row, run.attempt, run.known, scope, with_reply=True)
    closed = state._replace(row=row)
    if is_kept:
        done = closed.with_run(name, run._replace(phase=REPORTING, known=run.known + 1))
        yield Move("{worker}'s call is finished and written down", done, name)
    else:
        fenced = closed.with_run(name, run._replace(phase=FENCED))
        yield Move("{worker}'s call is finished and booked, its reply is refused", fenced, name)
    if run.phase == CALLING and scope.allows(state, Fault.LOSS):
        unheard = spend(closed.with_run(name, run._replace(phase=CLOSING)), Fault.LOSS)
        text = "{worker}'s call is finished and written down, and it does not hear it"
        yield Move(text, unheard, name, is_repair=False)


def _closed(state: State, run: Run, scope: Scope) -> State:
    row, _ = postgres.close_call(state.row, run.attempt, run.known, scope, with_reply=False)
    return state._replace(row=row)


def _interrupted(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    """Stop in the middle: the process is to end, or the deadline has passed."""
    if scope.allows(state, Fault.HAND_BACK):
        stopped = spend(_closed(state, run, scope), Fault.HAND_BACK)
        yield Move(
            "{worker} is to hand its job back",
            stopped.with_run(name, _to_record(run, HANDED_BACK, scope)),
            name,
            is_repair=False,
        )
    if state.row.is_late:
        overdue = _closed(state, run, scope).with_run(name, _to_record(run, FAILED, scope))
        yield Move("{worker} stops at the deadline", overdue, name)


def _record(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    is_end = run.outcome in ENDED
    row, is_applied = postgres.record_if_current(
        state.row,
        run.attempt,
        run.outcome if is_end else QUEUED,
        _final(run) if is_end else NO_EVENT,
        scope,
        errors=int(run.outcome == RETRIED),
    )
    text, recorded = _RECORDED[run.outcome], state._replace(row=row)
    if row != state.row and scope.allows(state, Fault.LOSS):
        unheard = spend(recorded, Fault.LOSS)
        yield Move(text + ", and does not hear it", unheard, name, is_repair=False)
    if not is_applied:
        fenced = recorded.with_run(name, run._replace(phase=FENCED))
        yield Move("{worker} is refused its outcome", fenced, name)
        return
    done = recorded.with_run(name, run._replace(phase=_after_commit(run)))
    yield Move(text, done, name)


def _final(run: Run) -> EventId:
    return run.attempt, run.numbered + 1


def _after_commit(run: Run) -> str:
    if run.outcome in ENDED:
        return TELLING
    return ADDING if run.outcome == HANDED_BACK else ACKNOWLEDGING


def _tell(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    told, answer = _append(state, run, _final(run), run.outcome, scope)
    if answer == redis.FENCED:
        yield Move("{worker} is refused its terminal event", state.with_run(name, None), name)
        return
    is_early = not scope.rules.event_follows_commit and state.row.status == PROCESSING
    phase = RECORDING if is_early else CLEARING
    text = "{worker} appends the terminal event"
    yield Move(text, told.with_run(name, run._replace(phase=phase)), name)
    if scope.allows(state, Fault.LOSS):
        text = "{worker} appends the terminal event, and does not hear it"
        if told.log != state.log:
            yield Move(text, spend(told, Fault.LOSS), name, is_repair=False)
        given_up = spend(state.with_run(name, None), Fault.LOSS)
        text = "{worker} cannot append the terminal event, and leaves {entry} pending"
        yield Move(text, given_up, name, run.entry, is_repair=False)


def _append(state: State, run: Run, last: EventId, ending: str, scope: Scope) -> tuple[State, str]:
    """Append what was not sent; all of the attempt if Redis has lost what was."""
    first = (run.attempt, run.sent + 1)
    told, answer = redis.append_events(state, first, last, ending, scope)
    if answer == redis.HOLE:
        return redis.append_events(told, (run.attempt, 1), last, ending, scope)
    return told, answer


def _clear(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    told = state.with_run(name, run._replace(phase=ACKNOWLEDGING))
    row = postgres.clear_event_pending(state.row, _final(run), scope)
    yield Move("{worker} notes that the terminal event is there", told._replace(row=row), name)
    if scope.allows(state, Fault.LOSS):
        lost = spend(told, Fault.LOSS)
        text = "{worker} cannot note that the terminal event is there"
        yield Move(text, lost, name, is_repair=False)


def _add(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    added, entry_id = redis.add_entry(state, run.attempt)
    marking = run._replace(phase=MARKING, again=entry_id)
    yield Move("{worker} adds {entry} again", added.with_run(name, marking), name, entry_id)
    if scope.allows(state, Fault.LOSS):
        leaving = run._replace(phase=ACKNOWLEDGING)
        text = "{worker} adds {entry} again, and does not hear it"
        unheard = spend(added.with_run(name, leaving), Fault.LOSS)
        yield Move(text, unheard, name, entry_id, is_repair=False)
        given_up = spend(state.with_run(name, leaving), Fault.LOSS)
        yield Move("{worker} cannot add an entry again", given_up, name, is_repair=False)


def _mark(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    row = postgres.mark_entry(state.row, run.attempt, run.again, scope)
    leaving = run._replace(phase=ACKNOWLEDGING, again=NO_ENTRY)
    marked = state._replace(row=row).with_run(name, leaving)
    yield Move("{worker} marks {entry}", marked, name, run.again)
    if scope.allows(state, Fault.LOSS):
        lost = spend(state.with_run(name, leaving), Fault.LOSS)
        yield Move("{worker} cannot mark {entry}", lost, name, run.again, is_repair=False)


def _acknowledge(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    rules = scope.rules
    acknowledged = redis.acknowledge(
        state, run.entry, name, only_if_owner=rules.acknowledgement_checks_owner
    )
    is_early = not rules.acknowledgement_follows_commit and postgres.is_current(
        state.row, run.attempt
    )
    then = run._replace(phase=RECORDING) if is_early else None
    yield Move("{worker} acknowledges {entry}", acknowledged.with_run(name, then), name, run.entry)
    if scope.allows(state, Fault.LOSS):
        lost = spend(state.with_run(name, None), Fault.LOSS)
        yield Move("{worker} cannot acknowledge {entry}", lost, name, run.entry, is_repair=False)


def _step_aside(state: State, name: int, run: Run, scope: Scope) -> Iterator[Move]:
    row = state.row
    is_needed = row.status not in ENDED and row.entry == run.entry
    if is_needed:
        text = "{worker} sees that {entry} is needed, and leaves it pending"
        yield Move(text, state.with_run(name, None), name, run.entry)
    else:
        leaving = state.with_run(name, run._replace(phase=ACKNOWLEDGING))
        text = "{worker} sees that {entry} is not needed"
        yield Move(text, leaving, name, run.entry)


_PHASES: Final[Mapping[str, Phase]] = {
    RESUMING: _resume,
    REPORTING: _report,
    NEXT: _call,
    CALLING: _finish_call,
    CLOSING: _close,
    RECORDING: _record,
    TELLING: _tell,
    CLEARING: _clear,
    ADDING: _add,
    MARKING: _mark,
    ACKNOWLEDGING: _acknowledge,
    FENCED: _step_aside,
}
