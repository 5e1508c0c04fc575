"""How much of the model is looked at: bounds within which nothing is left out."""

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Final

from tests.models.moves import Scope
from tests.models.state import Fault

# A redrive needs a failed job, so it has scopes of its own, where budgets are small.
_KINDS: Final = [fault for fault in Fault if fault is not Fault.REDRIVE]


def scope(
    *faults: Fault, together: int | None = None, workers: int = 2, steps: int = 1, budgets: int = 2
) -> Scope:
    """Bound each kind of fault by how often it is named, and all by `together` if not by that."""
    return Scope(
        workers=workers,
        steps=steps,
        together=len(faults) if together is None else together,
        faults={fault: faults.count(fault) for fault in faults},
        max_crashes=budgets,
        max_errors=budgets,
    )


SMALL: Final[Mapping[str, Sequence[Scope]]] = {
    "2 workers, 1 step, any two faults of different kinds": [scope(*_KINDS, together=2)],
    "2 workers, 2 steps, any one fault": [scope(*_KINDS, together=1, steps=2)],
    "2 workers, 2 steps, a crash, a pause and a cancellation": [
        scope(Fault.CRASH, Fault.PAUSE, Fault.CANCEL, steps=2)
    ],
    "2 workers, 2 steps, a crash, a flush and a cancellation": [
        scope(Fault.CRASH, Fault.FLUSH, Fault.CANCEL, steps=2)
    ],
    "3 workers, 1 step, two pauses, or a pause and a lost reply": [
        scope(Fault.PAUSE, Fault.PAUSE, workers=3),
        scope(Fault.PAUSE, Fault.LOSS, workers=3),
    ],
    "2 workers, 1 step, a redrive with a cancellation, or with two deaths": [
        scope(Fault.REDRIVE, Fault.ERROR, Fault.CANCEL, budgets=1),
        scope(Fault.REDRIVE, Fault.CRASH, Fault.DEATH, budgets=1),
    ],
}


def _of_three(*named: Fault, budgets: int = 2) -> list[Scope]:
    """One after another, because together they do not fit into memory."""
    others = combinations_with_replacement(_KINDS, 3 - len(named))
    return [scope(*named, *faults, budgets=budgets) for faults in others]


LARGE: Final[Mapping[str, Sequence[Scope]]] = {
    **SMALL,
    "2 workers, 2 steps, any two faults of different kinds": [scope(*_KINDS, together=2, steps=2)],
    "3 workers, 1 step, any two faults of different kinds": [scope(*_KINDS, together=2, workers=3)],
    "2 workers, 1 step, a redrive and any two faults": _of_three(Fault.REDRIVE, budgets=1),
    "2 workers, 1 step, any three faults": _of_three(),
}
