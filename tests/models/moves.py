"""What may happen next: who does what, and what comes of it, within which bounds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from tests.models.rules import REAL, Rules
from tests.models.state import NO_ENTRY, EntryId, Fault, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """How much there is: `together` bounds the sum of faults, `faults` each kind."""

    workers: int
    steps: int
    together: int
    faults: Mapping[Fault, int]
    max_crashes: int = 2
    max_errors: int = 2
    rules: Rules = REAL

    def allows(self, state: State, fault: Fault) -> bool:
        """Whether one more such fault may happen."""
        allowed = self.faults.get(fault, 0)
        return state.used[fault] < allowed and sum(state.used) < self.together


class Move(NamedTuple):
    """What happened, as a sentence with places for `{worker}` and `{entry}`.

    Repairs are what goes on by itself; a job must be able to end by them alone.
    """

    text: str
    state: State
    worker: int = -1
    entry: EntryId = NO_ENTRY
    is_repair: bool = True


Actor: TypeAlias = Callable[[State, Scope], Iterator[Move]]


def spend(state: State, fault: Fault) -> State:
    """Count a fault."""
    used = state.used
    return state._replace(used=(*used[:fault], used[fault] + 1, *used[fault + 1 :]))
