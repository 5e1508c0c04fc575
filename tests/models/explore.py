"""Breadth-first through every state that a scope allows, so that what is found is shortest."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Final

from tests.models.api import clients_ask, followups_go_on
from tests.models.canonical import canonical
from tests.models.clock import time_passes
from tests.models.faults import KILLED, faults_happen
from tests.models.invariants import CAN_END, broken_by, is_at_rest
from tests.models.maintenance import reconciler, relay
from tests.models.moves import Actor, Move, Scope
from tests.models.state import NO_ENTRY, Row, State, Worker
from tests.models.tasks import somebody_dies
from tests.models.worker import workers_go_on

_ACTORS: Final[tuple[Actor, ...]] = (
    clients_ask,
    followups_go_on,
    relay,
    workers_go_on,
    reconciler,
    time_passes,
    faults_happen,
    somebody_dies,
)


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken invariant and the shortest way to it."""

    invariant: str
    trace: Sequence[str]


@dataclass(slots=True)
class Exploration:
    """What was seen: how often each move was made, and from which status the job went to which."""

    states: int = 0
    at_rest: int = 0
    made: Counter[str] = field(default_factory=Counter)
    transitions: set[tuple[str, str]] = field(default_factory=set)
    violation: Violation | None = None


def explore(scope: Scope) -> Exploration:
    """Look at every state, until one breaks an invariant."""
    return _Search(scope).run()


def moves(state: State, scope: Scope) -> Iterator[Move]:
    """Everything that may happen next."""
    for actor in _ACTORS:
        yield from actor(state, scope)


class _Search:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._states = [State(Row(), (Worker(),) * scope.workers)]
        self._numbers = {self._states[0]: 0}
        self._parents = array("l", [-1])
        self._repaired = array("l")
        self._repairs = array("l")
        self._seen = Exploration()

    def run(self) -> Exploration:
        number = 0
        while number < len(self._states) and self._seen.violation is None:
            self._visit(number)
            number += 1
        self._seen.states = len(self._states)
        if self._seen.violation is None:
            self._find_dead_end()
        return self._seen

    def _visit(self, number: int) -> None:
        state = self._states[number]
        for move in moves(state, self._scope):
            after = canonical(move.state, self._scope)
            if after == state:
                continue
            self._seen.made[move.text] += 1
            self._seen.transitions.add((state.row.status, after.row.status))
            broken = broken_by(state, move, self._scope)
            if broken is not None:
                trace = self._trace([*self._way_to(number), after])
                self._seen.violation = Violation(broken, trace)
                return
            then = self._number(after, number)
            if move.is_repair:
                self._repaired.append(number)
                self._repairs.append(then)

    def _number(self, state: State, parent: int) -> int:
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
            self._parents.append(parent)
        return number

    def _find_dead_end(self) -> None:
        """Find the first state that repairs alone do not bring to rest."""
        before = defaultdict(list)
        for earlier, later in zip(self._repaired, self._repairs, strict=True):
            before[later].append(earlier)
        waiting = [number for number, state in enumerate(self._states) if is_at_rest(state)]
        self._seen.at_rest = len(waiting)
        ends = set(waiting)
        while waiting:
            for earlier in before[waiting.pop()]:
                if earlier not in ends:
                    ends.add(earlier)
                    waiting.append(earlier)
        stuck = next((n for n in range(len(self._states)) if n not in ends), None)
        if stuck is not None:
            self._seen.violation = Violation(CAN_END, self._trace(self._way_to(stuck)))

    def _way_to(self, number: int) -> list[State]:
        way = []
        while number >= 0:
            way.append(self._states[number])
            number = self._parents[number]
        return way[::-1]

    def _trace(self, way: Sequence[State]) -> list[str]:
        """Tell the way again, each process under one name from its beginning to its end."""
        told, state = [], way[0]
        letters = iter(ascii_uppercase)
        names = [next(letters) for _ in state.workers]
        for after in way[1:]:
            move = next(
                m for m in moves(state, self._scope) if canonical(m.state, self._scope) == after
            )
            heir = next(letters) if move.text == KILLED else ""
            told.append(_sentence(move, names, heir))
            if heir:
                names[move.worker] = heir
            state = move.state
        return told


def _sentence(move: Move, names: Sequence[str], heir: str) -> str:
    entry = "no entry" if move.entry == NO_ENTRY else "entry {}.{}".format(*move.entry)
    worker = names[move.worker] if move.worker >= 0 else "-"
    return move.text.format(worker=f"worker {worker}", entry=entry, heir=f"worker {heir}")
