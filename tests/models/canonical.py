"""Which states are one: those that differ in names, in order, or in what can matter no more."""

from tests.models import phases
from tests.models.moves import Scope
from tests.models.state import ENDED, PROCESSING, QUEUED, State, Task


def canonical(state: State, scope: Scope) -> State:
    """Return the one state that stands for all that are the same."""
    entries = tuple(sorted(state.entries))
    tasks = tuple(sorted(task for task in state.tasks if not _is_vain(state, task, scope)))
    ranked = sorted(
        (
            worker.rank,
            state.row.worker == name,
            [each.id for each in entries if each.owner == name],
            name,
        )
        for name, worker in enumerate(state.workers)
    )
    order = [name for *_, name in ranked]
    if order == sorted(order):
        return state._replace(entries=entries, tasks=tasks)
    names = {old: new for new, old in enumerate(order)}
    return state._replace(
        row=state.row._replace(worker=names.get(state.row.worker, state.row.worker)),
        workers=tuple(state.workers[name] for name in order),
        entries=tuple(each._replace(owner=names.get(each.owner, each.owner)) for each in entries),
        tasks=tasks,
    )


def _is_vain(state: State, task: Task, scope: Scope) -> bool:
    """Whether the guard of its statement will refuse what is left of a task, whatever happens."""
    row, rules = state.row, scope.rules
    is_past = row.attempt > task.attempt
    match task.kind, task.stage:
        case phases.RING, phases.MARKING:
            return rules.mark_checks_attempt and (is_past or row.status in ENDED)
        case phases.TELL, phases.CLEARING:
            return rules.clearing_names_the_event and row.final != task.final
        case phases.FORGET, _:
            return row.status != QUEUED or row.entry != task.entry
        case phases.RECOVER, _:
            return row.status != PROCESSING or is_past
    return False
