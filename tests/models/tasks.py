"""What the API and maintenance do alike, one step after another, and may do late or never."""

from collections.abc import Iterator
from typing import Final

from tests.models import postgres, redis
from tests.models.moves import Move, Scope, spend
from tests.models.phases import ADDING, CLEARING, MARKING, REDRIVE, RING, TELL, TELLING
from tests.models.state import Fault, State, Task

_WORK: Final = {
    RING: "add the entry and mark it",
    TELL: "append the terminal event",
    REDRIVE: "begin the events anew",
}


def ring(attempt: int) -> Task:
    """Add the job's entry, then note where it is."""
    return Task(RING, ADDING, attempt)


def tell(state: State) -> Task:
    """Append the terminal event of the row as it is, then note that it is there."""
    row = state.row
    return Task(TELL, TELLING, row.final[0], final=row.final, ending=row.status)


def ringing_goes_on(state: State, task: Task, scope: Scope) -> Iterator[Move]:
    """XADD, then mark."""
    if task.stage == ADDING:
        added, entry_id = redis.add_entry(state, task.attempt)
        marking = task._replace(stage=MARKING, entry=entry_id)
        yield Move("{entry} is added", added.with_task(task, marking), entry=entry_id)
        if scope.allows(state, Fault.LOSS):
            unheard = spend(added.with_task(task, None), Fault.LOSS)
            text = "{entry} is added, and whoever added it does not hear it"
            yield Move(text, unheard, entry=entry_id, is_repair=False)
        return
    row = postgres.mark_entry(state.row, task.attempt, task.entry, scope)
    marked = state._replace(row=row).with_task(task, None)
    verb = "is marked" if row != state.row else "is not marked, because the job has moved on"
    yield Move(f"{{entry}} {verb}", marked, entry=task.entry)


def telling_goes_on(state: State, task: Task, scope: Scope) -> Iterator[Move]:
    """Append, then clear; this also clears after a refusal, which the API does not."""
    if task.stage == TELLING:
        told, _ = redis.append_events(state, task.final, task.final, task.ending, scope)
        clearing = task._replace(stage=CLEARING)
        yield Move("the terminal event is appended from the row", told.with_task(task, clearing))
        return
    row = postgres.clear_event_pending(state.row, task.final, scope)
    cleared = state._replace(row=row).with_task(task, None)
    yield Move("it is noted that the terminal event is there", cleared)


def somebody_dies(state: State, scope: Scope) -> Iterator[Move]:
    """Whoever does it dies, or reaches no server, between two steps."""
    if scope.allows(state, Fault.DEATH):
        for task in sorted({each for each in state.tasks if each.kind in _WORK}):
            died = spend(state.with_task(task, None), Fault.DEATH)
            text = f"whoever was to {_WORK[task.kind]} dies first"
            yield Move(text, died, entry=task.entry, is_repair=False)
