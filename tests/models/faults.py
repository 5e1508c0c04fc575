"""What is done to the processes and to Redis."""

from collections.abc import Iterator
from typing import Final

from tests.models import redis
from tests.models.moves import Move, Scope, spend
from tests.models.state import ABSENT, Fault, Log, State, Worker

KILLED: Final = "{worker} is killed, and {heir} takes its place"

_NEW: Final = Worker()


def faults_happen(state: State, scope: Scope) -> Iterator[Move]:
    """Every fault that its bounds still allow."""
    for name, worker in enumerate(state.workers):
        if scope.allows(state, Fault.CRASH) and _has_anything(state, name):
            crashed = redis.disown(spend(state, Fault.CRASH), name).with_worker(name, _NEW)
            yield Move(KILLED, crashed, name, is_repair=False)
        if worker.is_paused:
            # No repair: a job has to end even if it never wakes.
            awake = state.with_worker(name, worker._replace(is_paused=False))
            yield Move("{worker} is resumed", awake, name, is_repair=False)
        elif _may_pause(state, name) and scope.allows(state, Fault.PAUSE):
            paused = state.with_worker(name, worker._replace(is_paused=True))
            yield Move("{worker} is paused", spend(paused, Fault.PAUSE), name, is_repair=False)
    yield from _redis_suffers(state, scope)


def _may_pause(state: State, name: int) -> bool:
    """Whether it has something to be late with, and another worker stays awake."""
    worker = state.workers[name]
    is_busy = worker.hand is not None or worker.run is not None
    return is_busy and any(
        not each.is_paused for other, each in enumerate(state.workers) if other != name
    )


def _has_anything(state: State, name: int) -> bool:
    worker = state.workers[name]
    return worker != _NEW or any(each.owner == name for each in state.entries)


def _redis_suffers(state: State, scope: Scope) -> Iterator[Move]:
    if scope.allows(state, Fault.FLUSH):
        for entry in state.entries:
            # As after a trim, or when its consumer was removed by hand.
            lost = redis.lose(spend(state, Fault.FLUSH), entry.id)
            yield Move("Redis loses {entry}", lost, entry=entry.id, is_repair=False)
        if state.log != Log():
            gone = spend(state._replace(log=Log()), Fault.FLUSH)
            yield Move("Redis loses the events", gone, is_repair=False)
        if len(state.entries) + (state.log != Log()) > 1:
            flushed = spend(redis.flush(state), Fault.FLUSH)
            yield Move("Redis loses everything", flushed, is_repair=False)
    if scope.allows(state, Fault.DUPLICATE) and state.row.status != ABSENT:
        added, entry_id = redis.add_entry(state, state.row.attempt)
        text = "{entry} is added once more than anybody asked for"
        yield Move(text, spend(added, Fault.DUPLICATE), entry=entry_id, is_repair=False)
