"""Every way in which clients, workers, loops and the world act on jobs, in any order."""

from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from service.domain.errors import (
    IdempotencyConflict,
    JobFinished,
    JobNotEnded,
    JobNotFailed,
    NotFound,
)
from service.domain.events import BEGINNING, EventId, EventType, JobEvent, event_data
from service.domain.job import JobStatus, Owner
from service.domain.outcome import Failed, Outcome, Stopped, Succeeded, Superseded
from service.domain.uuid7 import RANDOM_BYTES, uuid7
from tests.fixtures.factories import a_new_job
from tests.fixtures.streams import BOTH
from tests.stateful.faults import WELL, Fate
from tests.stateful.invariants import Step
from tests.stateful.recovery import recover
from tests.stateful.worker import LEASE, RETENTION, Run, Worker
from tests.stateful.world import Servers, World, run

Found = TypeVar("Found")

_MOST_ALIVE: Final = 4
_REFUSALS: Final = (IdempotencyConflict, JobFinished, JobNotEnded, JobNotFailed, NotFound)
_OWNERS: Final = (Owner("acme", "ann"), Owner("acme", "bob"))
_PAUSES: Final = (3, 6, LEASE + 1, 20, 130)
_OUTCOMES: Final[Sequence[Outcome]] = (
    Failed("MODEL_UNAVAILABLE", "busy", retryable=True),
    Succeeded({"ok": True}),
    Failed("MODEL_UNAVAILABLE", "busy", retryable=True, retry_after=20.0),
    Stopped(),
    Failed("MODEL_REFUSED", "no", retryable=False),
    Stopped(),
)

# How often each is done, while it can be done.
_ALWAYS: Final = {
    "take": 10,
    "be_given": 3,
    "reclaim": 3,
    "read_again": 1,
    "crash": 1,
    "relay": 5,
    "reconcile": 3,
    "prune": 1,
    "pass_time": 4,
    "flush": 1,
    "delete_stream": 1,
    "destroy_group": 3,
    "delete_consumer": 1,
    "restart_postgres": 1,
}
_WITH_ROOM: Final = {"submit": 12}
_WITH_JOBS: Final = {"cancel": 2, "submit_again": 1, "ring_again": 2}
_WITH_ENDED_JOBS: Final = {"purge": 1}
_WITH_FAILED_JOBS: Final = {"redrive": 6}
_WITH_DELIVERIES: Final = {"claim": 8, "give_back": 4}
_WITH_STOLEN_DELIVERIES: Final = {"give_back": 12}
_WITH_WORK: Final = {"fall_silent": 8}
_WITH_RUNS: Final = {"call": 20, "emit": 4, "end": 10, "renew": 3, "append_out_of_order": 1}
_WITH_ZOMBIES: Final = {"rise": 15}
_WITH_ENDINGS: Final = {"repeat_ending": 2}
_WITH_EVENTS: Final = {"read_events": 3, "trim_events": 2, "delete_events": 2}
_WITH_LATE_WRITES: Final = {"land_late": 10}

which = st.integers(0, 5)
fates = st.sampled_from(
    (
        *(WELL for _ in range(14)),
        *(Fate("deaf", nth) for nth in range(5)),
        *(Fate("dies", nth) for nth in range(4)),
        *(Fate("late", nth) for nth in range(2)),
        *(Fate("lazy", nth) for nth in (0, 0, 0, 0, 1, 1)),
    )
)


class ProtocolMachine(RuleBasedStateMachine):
    """Numbers say which of those that are there, the newest first, and in which way.

    There is one rule, because Hypothesis does without half of the rules in each example, and
    most histories without a worker or without a relay are short.
    """

    def __init__(self, loop: AbstractEventLoop, servers: Servers) -> None:
        super().__init__()
        self._loop = loop
        self._has_failed = False
        self._numbers = count(1)
        self._cursors: dict[UUID, EventId] = {}
        self.world = World(servers)
        self._run(self.world.empty())
        self._run(self.world.look(Step(loses_entries=True)))

    def possible(self) -> list[str]:
        """What can be done now, the more likely things more than once."""
        world, rows = self.world, self.world.model.rows.values()
        weights = (
            # What comes first is tried most.
            _WITH_RUNS if self._runs() else {},
            _ALWAYS,
            _WITH_ROOM if sum(not row.status.is_terminal for row in rows) < _MOST_ALIVE else {},
            _WITH_JOBS if rows else {},
            _WITH_ENDED_JOBS if self._ended_jobs() else {},
            _WITH_FAILED_JOBS if self._failed_jobs() else {},
            _WITH_DELIVERIES if self._given() else {},
            _WITH_STOLEN_DELIVERIES if any(map(self._is_stolen_from, self._given())) else {},
            _WITH_WORK if self._busy() else {},
            _WITH_ZOMBIES if self._zombies() else {},
            _WITH_ENDINGS if world.model.endings else {},
            _WITH_EVENTS if world.seen.events else {},
            _WITH_LATE_WRITES if world.spell.overdue else {},
        )
        return [what for each in weights for what, weight in each.items() for _ in range(weight)]

    @initialize(users=st.lists(st.integers(0, 1), min_size=1, max_size=3))
    def begin(self, users: list[int]) -> None:
        """A few jobs are in the stream."""
        for user in users:
            self._submit(user, 1, WELL)

    @rule(
        what=st.runner().flatmap(lambda machine: st.sampled_from(machine.possible())),
        index=which,
        how=which,
        fate=fates,
    )
    def step(self, what: str, index: int, how: int, fate: Fate) -> None:
        """Somebody acts; everything is looked at after each of his acts."""
        getattr(self, f"_{what}")(index, how, fate)

    def teardown(self) -> None:
        """Whatever has happened, it all comes to an end."""
        if not self._has_failed:
            self._run(recover(self.world))

    def _run(self, deed: Awaitable[Any]) -> Any:
        try:
            return run(self._loop, deed)
        except _REFUSALS:
            raise  # as it may be
        except BaseException:
            self._has_failed = True
            raise

    def _act(self, deed: Awaitable[object], fate: Fate = WELL, **step: Any) -> bool:
        survived: bool = self._run(self.world.act(deed, fate=fate, step=Step(**step)))
        return survived

    def _work(self, worker: Worker, deed: Awaitable[object], fate: Fate) -> None:
        """Let a worker act; one that dies makes room for another."""
        if not self._act(deed, fate, by=worker.name):
            self._bury(worker)

    def _bury(self, worker: Worker) -> None:
        workers = self.world.workers
        workers[workers.index(worker)] = self.world.hire()

    def _worker(self, index: int) -> Worker:
        return self.world.workers[index % len(self.world.workers)]

    def _runs(self) -> list[tuple[Worker, Run]]:
        return [(at, each) for at in self.world.workers for each in at.running.values()]

    def _busy(self) -> list[Worker]:
        holders = set(self.world.seen.holders.values())
        return [each for each in self.world.workers if each.running or each.name in holders]

    def _zombies(self) -> list[tuple[Worker, Run]]:
        current = self.world.model.is_current
        return [(at, each) for at, each in self._runs() if not current(each.fence)]

    def _job(self, index: int) -> UUID:
        return _pick(list(self.world.model.rows), index)

    # --- clients ---------------------------------------------------------------------------

    def _submit(self, index: int, how: int, fate: Fate) -> None:
        number = next(self._numbers)
        job = a_new_job(
            _OWNERS[index % len(_OWNERS)],
            job_id=_job_id(number),
            deadline=60.0 if how == 5 else 3600.0,
            reserved=50,
            key=f"key-{number}" if how % 2 == 0 else None,
        )
        self._act(self.world.submit(job), fate)

    def _submit_again(self, index: int, how: int, fate: Fate) -> None:
        keys = list(self.world.model.keys)
        if not keys:
            return
        owner, key = _pick(keys, index)
        body = b"other" if how else b"body"
        again = a_new_job(owner, job_id=_job_id(next(self._numbers)), key=key, fingerprint=body)
        try:
            self._act(self.world.submit(again), fate)
        except IdempotencyConflict:
            assert body == b"other"

    def _cancel(self, index: int, how: int, fate: Fate) -> None:
        row = self.world.model.rows[self._job(index)]
        has_finished = row.status in {JobStatus.COMPLETED, JobStatus.FAILED}
        try:
            self._act(self.world.cancel(row.id, row.owner), fate)
        except JobFinished:
            assert has_finished

    def _redrive(self, index: int, how: int, fate: Fate) -> None:
        row = self.world.model.rows[_pick(self._failed_jobs(), index)]
        self._act(self.world.redrive(row.id, row.owner), fate)
        told = self.world.seen.events.get(row.id, [])
        assert fate != WELL or [each.id for each in told] == [EventId(row.generation, 1)]

    def _purge(self, index: int, how: int, fate: Fate) -> None:
        row = self.world.model.rows[_pick(self._ended_jobs(), index)]
        self._act(self.world.purge(row.id, row.owner), fate, loses_events=True)

    def _ended_jobs(self) -> list[UUID]:
        rows = self.world.model.rows
        return [job_id for job_id, row in rows.items() if row.status.is_terminal]

    def _failed_jobs(self) -> list[UUID]:
        rows = self.world.model.rows
        return [job_id for job_id, row in rows.items() if row.status is JobStatus.FAILED]

    def _read_events(self, index: int, how: int, fate: Fate) -> None:
        job_id = _pick(list(self.world.seen.events), index)
        cursor = self._cursors.get(job_id, BEGINNING)
        frames = self._run(self.world.events.read_after(job_id, cursor, 1 + how))
        there = [told.id for told in self.world.seen.events[job_id]]
        assert [f.id for f in frames] == [id_ for id_ in there if id_ > cursor][: 1 + how]
        self._cursors[job_id] = max([cursor, *(frame.id for frame in frames)])

    # --- workers ---------------------------------------------------------------------------

    def _be_given(self, index: int, how: int, fate: Fate) -> None:
        self._act(self._worker(index).read("new"))

    def _take(self, index: int, how: int, fate: Fate) -> None:
        self._read_and_claim(self._worker(index), "new", fate)

    def _read_again(self, index: int, how: int, fate: Fate) -> None:
        self._read_and_claim(self._worker(index), "own", fate)

    def _reclaim(self, index: int, how: int, fate: Fate) -> None:
        self._read_and_claim(self._worker(index), "silent", fate)

    def _read_and_claim(self, worker: Worker, what: str, fate: Fate) -> None:
        self._act(worker.read(what), moves_entries=what == "silent")
        self._work(worker, worker.claim(), fate)

    def _claim(self, index: int, how: int, fate: Fate) -> None:
        worker = _pick(self._given(), index)
        self._work(worker, worker.claim(), fate)

    def _give_back(self, index: int, how: int, fate: Fate) -> None:
        worker = _pick(sorted(self._given(), key=self._is_stolen_from), index)
        self._work(worker, worker.give_back(), fate)

    def _given(self) -> list[Worker]:
        return [worker for worker in self.world.workers if worker.inbox]

    def _is_stolen_from(self, worker: Worker) -> bool:
        holders = self.world.seen.holders
        given = [(each.stream, each.entry_id) for each in worker.inbox]
        return any(holders.get(entry, worker.name) != worker.name for entry in given)

    def _call(self, index: int, how: int, fate: Fate) -> None:
        worker, attempt = _pick(self._runs(), index)
        self._work(worker, _call(worker, attempt, how), fate)

    def _emit(self, index: int, how: int, fate: Fate) -> None:
        worker, attempt = _pick(self._runs(), index)
        self._work(worker, worker.emit(attempt, EventType.ITERATION_START), fate)

    def _end(self, index: int, how: int, fate: Fate) -> None:
        worker, attempt = _pick(self._runs(), index)
        self._work(worker, worker.end(attempt, _OUTCOMES[how]), fate)

    def _fall_silent(self, index: int, how: int, fate: Fate) -> None:
        """A worker is stopped for so long that another one takes its job over."""
        worker = _pick(self._busy(), index)
        self._act(self.world.pass_time(LEASE + 1))
        other = _pick([each for each in self.world.workers if each is not worker], how)
        self._read_and_claim(other, "silent", fate)

    def _rise(self, index: int, how: int, fate: Fate) -> None:
        """An attempt goes on that is no longer the job's."""
        worker, attempt = _pick(self._zombies(), index)
        deeds = (
            _call(worker, attempt, how),
            worker.emit(attempt, EventType.ITERATION_START),
            worker.end(attempt, Superseded()),
            worker.renew(),
            *(worker.end(attempt, outcome) for outcome in _OUTCOMES[:2]),
        )
        for number, deed in enumerate(deeds):
            if number == how:
                self._work(worker, deed, fate)
            else:
                deed.close()

    def _repeat_ending(self, index: int, how: int, fate: Fate) -> None:
        ending = _pick(self.world.model.endings, index)
        self._act(self.world.attempts.record_if_current(*ending))

    def _append_out_of_order(self, index: int, how: int, fate: Fate) -> None:
        _, attempt = _pick(self._runs(), index)
        fence = attempt.fence
        there = self.world.seen.events.get(fence.job_id, [])
        last = there[-1].id.seq if there and there[-1].id.attempt == fence.attempt else 0
        beyond = EventId(fence.attempt, last + 2)
        data = event_data(EventType.ITERATION_START, fence.job_id, fence.attempt, {})
        hole = JobEvent(beyond, EventType.ITERATION_START, data)
        old = [event for event in attempt.told if event.id.seq <= last]
        events = old if old and how % 2 else [hole]
        self._act(self.world.events.append(fence.job_id, events, RETENTION))
        assert self.world.seen.events.get(fence.job_id, []) == there

    def _renew(self, index: int, how: int, fate: Fate) -> None:
        worker, _ = _pick(self._runs(), index)
        self._act(worker.renew())

    def _crash(self, index: int, how: int, fate: Fate) -> None:
        self._bury(self._worker(index))

    # --- maintenance -----------------------------------------------------------------------

    def _relay(self, index: int, how: int, fate: Fate) -> None:
        if how > 1:  # by when what was accepted or handed back and not rung for is due
            self._act(self.world.pass_time(3))
        self._act(self.world.relay.run_once(), fate)

    def _reconcile(self, index: int, how: int, fate: Fate) -> None:
        self._act(self.world.reconciler.run_once(), fate)
        assert fate != WELL or self.world.model.left_to_repair(LEASE) == []

    def _prune(self, index: int, how: int, fate: Fate) -> None:
        self._act(self.world.pruner.run_once())

    def _land_late(self, index: int, how: int, fate: Fate) -> None:
        """A write takes effect after whoever sent it has given it up."""
        write = _pick(self.world.spell.overdue, index)
        self.world.spell.late.remove(write)
        self.world.model.is_late = True
        with suppress(*_REFUSALS):
            self._act(write.land(), by=write.sender, is_late=True)
        self.world.model.is_late = False

    # --- the world around ------------------------------------------------------------------

    def _pass_time(self, index: int, how: int, fate: Fate) -> None:
        self._act(self.world.pass_time(_PAUSES[how % len(_PAUSES)]))

    def _ring_again(self, index: int, how: int, fate: Fate) -> None:
        self._act(self.world.entries.add_entry(self._job(index), how % 2, None))

    def _restart_postgres(self, index: int, how: int, fate: Fate) -> None:
        self._act(self.world.restart_postgres())

    def _flush(self, index: int, how: int, fate: Fate) -> None:
        self._act(self.world.lose_everything(), loses_entries=True, loses_events=True)

    def _delete_stream(self, index: int, how: int, fate: Fate) -> None:
        self._act(self.world.commands.delete(BOTH[how % len(BOTH)]), loses_entries=True)

    def _destroy_group(self, index: int, how: int, fate: Fate) -> None:
        self._act(self.world.destroy_group(BOTH[how % len(BOTH)]))

    def _delete_consumer(self, index: int, how: int, fate: Fate) -> None:
        self._act(self.world.lose_consumer(self._worker(index)))

    def _delete_events(self, index: int, how: int, fate: Fate) -> None:
        job_id = _pick(list(self.world.seen.events), index)
        self._act(self.world.lose_events(job_id), loses_events=True)

    def _trim_events(self, index: int, how: int, fate: Fate) -> None:
        job_id = _pick(list(self.world.seen.events), index)
        self._act(self.world.trim_events(job_id, kept=how), loses_events=True)


def _call(worker: Worker, attempt: Run, how: int) -> Coroutine[Any, Any, None]:
    """Make the next call, or end the one that was made."""
    if attempt.opened is not None:
        return worker.close_call(attempt, attempt.opened, "failed" if how == 5 else "finished")
    return worker.open_call(attempt)


def _job_id(number: int) -> UUID:
    return uuid7(number, bytes([number] * RANDOM_BYTES))


def _pick(found: Sequence[Found], index: int) -> Found:
    """The newest for 0, then older ones."""
    return found[-1 - index % len(found)]
