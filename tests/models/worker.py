"""A worker's read loop: entries delivered, claimed, and settled by their verdict."""

from collections.abc import Iterator
from typing import Final

from tests.models import phases, postgres, redis
from tests.models.attempt import attempt_goes_on
from tests.models.clock import may_be_idle, may_lease_be_over
from tests.models.moves import Move, Scope, spend
from tests.models.state import NOBODY, PROCESSING, EntryId, Fault, Hand, Run, State

_VERDICTS: Final = {
    postgres.TERMINAL: "{worker} claims {entry}: the job has ended",
    postgres.FAILED_FOR_GOOD: "{worker} claims {entry}: the job fails for good",
    postgres.NOT_DUE: "{worker} claims {entry}: the job is not due",
    postgres.LEASED: "{worker} claims {entry}: it is leased, and stays pending",
    postgres.LEASED_THROUGH_ANOTHER_ENTRY: "{worker} claims {entry}: leased through another entry",
    postgres.STARTED: "{worker} claims {entry}: the job starts",
    postgres.TAKEN_OVER: "{worker} claims {entry}: it takes the job over",
}


def workers_go_on(state: State, scope: Scope) -> Iterator[Move]:
    """Whatever each worker that is awake may do next."""
    for name, worker in enumerate(state.workers):
        if worker.is_paused:
            continue
        yield from _read(state, name, scope)
        if worker.hand is not None:
            yield from _settle(state, name, worker.hand, scope)
        if worker.run is not None:
            yield from attempt_goes_on(state, name, worker.run, scope)


def _read(state: State, name: int, scope: Scope) -> Iterator[Move]:
    worker = state.workers[name]
    if worker.hand is not None:
        return
    for entry in state.entries:
        if entry.owner == NOBODY:
            text = "{worker} reads {entry}"
        elif may_be_idle(state, entry.id):
            text = "{worker} reclaims {entry}, which is idle"
        else:
            continue
        given = redis.give(state, entry.id, name)
        yield Move(text, _take(given, name, entry.id), name, entry.id)
        if scope.allows(state, Fault.LOSS) and not worker.must_reread:
            unheard = given.with_worker(name, worker._replace(must_reread=True))
            text = "{worker} is given {entry}, and does not hear it"
            yield Move(text, spend(unheard, Fault.LOSS), name, entry.id, is_repair=False)
    if worker.must_reread and worker.run is None:
        yield from _reread(state, name)


def _take(state: State, name: int, entry_id: EntryId) -> State:
    """Claim it next, or after the attempt that runs here has ended."""
    worker = state.workers[name]
    if worker.run is not None:
        is_postponed = worker.must_reread or worker.run.entry != entry_id
        return state.with_worker(name, worker._replace(must_reread=is_postponed))
    hand = Hand(entry_id, phases.READ, known=state.row.saved)
    return state.with_hand(name, hand)


def _reread(state: State, name: int) -> Iterator[Move]:
    worker = state.workers[name]
    own = [each.id for each in state.entries if each.owner == name]
    for entry_id in own:
        hand = Hand(entry_id, phases.READ, known=state.row.saved)
        read = worker._replace(hand=hand, must_reread=len(own) > 1)
        text = "{worker} reads its pending entries again, and finds {entry}"
        yield Move(text, state.with_worker(name, read), name, entry_id)
    if not own:
        read = worker._replace(must_reread=False)
        text = "{worker} reads its pending entries again, and finds none"
        yield Move(text, state.with_worker(name, read), name)


def _settle(state: State, name: int, hand: Hand, scope: Scope) -> Iterator[Move]:
    match hand.stage:
        case phases.READ:
            yield from _claim(state, name, hand, scope)
        case phases.TELLING:
            told, _ = redis.append_events(state, hand.final, hand.final, hand.ending, scope)
            text = "{worker} makes sure that the terminal event of the ended job is there"
            yield Move(text, told.with_hand(name, hand._replace(stage=phases.CLEARING)), name)
        case phases.CLEARING:
            row = postgres.clear_event_pending(state.row, hand.final, scope)
            cleared = state._replace(row=row).with_hand(name, hand._replace(stage=phases.SETTLED))
            yield Move("{worker} notes that the terminal event is there", cleared, name)
        case phases.SETTLED:
            done = redis.acknowledge(
                state,
                hand.entry,
                name,
                only_if_owner=scope.rules.acknowledgement_checks_owner,
            )
            text = "{worker} acknowledges {entry}, which is not needed"
            yield Move(text, done.with_hand(name, None), name, hand.entry)
    if hand.stage != phases.READ and scope.allows(state, Fault.LOSS):
        given_up = spend(state.with_hand(name, None), Fault.LOSS)
        text = "{worker} reaches no server, and leaves {entry} pending"
        yield Move(text, given_up, name, hand.entry, is_repair=False)


def _claim(state: State, name: int, hand: Hand, scope: Scope) -> Iterator[Move]:
    for lease_is_over in {False, may_lease_be_over(state)}:
        row, verdict = postgres.claim_jobs(
            state.row, hand.entry, name, scope, lease_is_over=lease_is_over
        )
        claimed = state._replace(row=row)
        if row != state.row and scope.allows(state, Fault.LOSS):
            worker = state.workers[name]._replace(hand=None, must_reread=True)
            unheard = spend(claimed.with_worker(name, worker), Fault.LOSS)
            text = _VERDICTS[verdict] + ", and it does not hear it"
            yield Move(text, unheard, name, hand.entry, is_repair=False)
        yield Move(
            _VERDICTS[verdict], _judged(claimed, name, hand, verdict, scope), name, hand.entry
        )


def _judged(state: State, name: int, hand: Hand, verdict: str, scope: Scope) -> State:
    row, rules = state.row, scope.rules
    if row.status == PROCESSING and verdict in {postgres.STARTED, postgres.TAKEN_OVER}:
        known = 0 if rules.checkpoints_are_read_after_claim else hand.known
        phase = phases.RESUMING if row.attempt > 1 else phases.REPORTING
        run = Run(row.attempt, hand.entry, phase, base=known, known=known)
        return state.with_hand(name, None).with_run(name, run)
    if verdict in {postgres.TERMINAL, postgres.FAILED_FOR_GOOD}:
        ending = Hand(hand.entry, phases.TELLING, row.attempt, final=row.final, ending=row.status)
        return state.with_hand(name, ending)
    if verdict == postgres.LEASED and rules.leased_entry_is_left_pending:
        return state.with_hand(name, None)
    return state.with_hand(name, Hand(hand.entry, phases.SETTLED, row.attempt))
