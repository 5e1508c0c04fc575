"""What is done to the processes and to Redis."""

from collections.abc import Iterator

from tests.models import redis
from tests.models.moves import Move, Scope, spend
from tests.models.state import ENDED, ABSENT, Entry, Fault, State, Worker

_NEW = Worker()


def faults_happen(state: State, scope: Scope) -> Iterator[Move]:
    """Every fault that its bounds still allow."""
    for name, worker in enumerate(state.workers):
        if scope.allows(state, Fault.CRASH) and _has_anything(state, name):
            crashed = redis.disown(spend(state, Fault.CRASH), name).with_worker(name, _NEW)
            text = "{worker} is killed, and another takes its place"
            yield Move(text, crashed, name, is_repair=False)
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
        flushed = redis.flush(state)
        if flushed != state:
            yield Move("Redis loses everything", spend(flushed, Fault.FLUSH), is_repair=False)
    if scope.allows(state, Fault.DUPLICATE) and state.row.status != ABSENT:
        added, entry_id = redis.add_entry(state, state.row.attempt)
        text = "{entry} is added once more than anybody asked for"
        yield Move(text, spend(added, Fault.DUPLICATE), entry=entry_id, is_repair=False)
