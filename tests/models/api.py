"""Clients that post, cancel and redrive, and what follows each of these commits."""

from collections.abc import Iterator

from tests.models import phases, postgres, redis
from tests.models.moves import Move, Scope, spend
from tests.models.state import ABSENT, FAILED, PROCESSING, QUEUED, Fault, State, Task
from tests.models.tasks import ring, ringing_goes_on, tell, telling_goes_on


def clients_ask(state: State, scope: Scope) -> Iterator[Move]:
    """What a client may want of the job now."""
    row = state.row
    if row.status == ABSENT:
        for ring_now in (True, False):
            begun = state._replace(row=postgres.insert_job(ring_now=ring_now))
            yield Move(
                "the job is accepted" + ("" if ring_now else ", its entry left to the relay"),
                begun.with_task(None, ring(0) if ring_now else None),
            )
    if row.status in {QUEUED, PROCESSING} and scope.allows(state, Fault.CANCEL):
        yield _cancelled(spend(state, Fault.CANCEL), scope)
    if row.status == FAILED and scope.allows(state, Fault.REDRIVE):
        yield _redriven(spend(state, Fault.REDRIVE), scope)


def _cancelled(state: State, scope: Scope) -> Move:
    if not scope.rules.cancelled_in_one_write:
        text = "the API sees that the job may be cancelled"
        return Move(
            text, state.with_task(None, Task(phases.CANCEL, phases.TELLING)), is_repair=False
        )
    return Move("the job is cancelled", _cancel(state, scope), is_repair=False)


def _cancel(state: State, scope: Scope) -> State:
    cancelled = state._replace(row=postgres.cancel_owned_job(state.row, scope))
    return cancelled.with_task(None, tell(cancelled))


def _redriven(state: State, scope: Scope) -> Move:
    row = postgres.redrive_failed_job(state.row, scope)
    redriven = state._replace(row=row, is_told=False)
    begun = redriven.with_task(None, Task(phases.REDRIVE, phases.TELLING, row.attempt))
    return Move("the failed job is redriven", begun, is_repair=False)


def followups_go_on(state: State, scope: Scope) -> Iterator[Move]:
    """Every step that follows a commit of the API."""
    for task in sorted(set(state.tasks)):
        match task.kind:
            case phases.RING:
                yield from ringing_goes_on(state, task, scope)
            case phases.TELL:
                yield from telling_goes_on(state, task, scope)
            case phases.REDRIVE:
                told = redis.redrive_events(state, task.attempt)
                text = "the redrive's event begins the events anew"
                yield Move(text, told.with_task(task, ring(task.attempt)))
            case phases.CANCEL:
                yield Move(
                    "the API writes the cancellation", _cancel(state.with_task(task, None), scope)
                )
