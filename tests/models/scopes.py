"""How much of the model is looked at: bounds within which nothing is left out."""

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Final

from tests.models.moves import Scope
from tests.models.state import Fault

# A redrive needs a failed job, so it has scopes in which a job fails soon.
_KINDS: Final = [fault for fault in Fault if fault is not Fault.REDRIVE]


def scope(*faults: Fault, together: int | None = None, **bounds: int) -> Scope:
    """Bound each kind of fault by how often it is named; two workers and one step by default."""
    return Scope(
        workers=bounds.pop("workers", 2),
        steps=bounds.pop("steps", 1),
        together=len(faults) if together is None else together,
        faults={fault: faults.count(fault) for fault in faults},
        **bounds,
    )


SMALL: Final[Mapping[str, Sequence[Scope]]] = {
    "2 workers, 1 step, any two faults of different kinds": [scope(*_KINDS, together=2)],
    "2 workers, 2 steps, any one fault": [scope(*_KINDS, together=1, steps=2)],
    "2 workers, 2 steps, a crash, a pause and a cancellation": [
        scope(Fault.CRASH, Fault.PAUSE, Fault.CANCEL, steps=2)
    ],
    "2 workers, 2 steps, a pause and a lost request or reply": [
        scope(Fault.PAUSE, Fault.LOSS, steps=2)
    ],
    "3 workers, 1 step, a crash, a pause and a flush": [
        scope(Fault.CRASH, Fault.PAUSE, Fault.FLUSH, workers=3)
    ],
    "2 workers, 1 step, a redrive": [
        scope(
            *(Fault.REDRIVE, Fault.ERROR, Fault.CRASH, Fault.DEATH, Fault.CANCEL),
            together=3,
            max_crashes=1,
            max_errors=1,
        )
    ],
}


def _of_three(*more: Fault, **bounds: int) -> list[Scope]:
    """One after another, because together they do not fit into memory."""
    chosen = combinations_with_replacement(_KINDS, 3 - len(more))
    return [scope(*more, *faults, **bounds) for faults in chosen]


LARGE: Final[Mapping[str, Sequence[Scope]]] = {
    "2 workers, 1 step, any three faults": _of_three(),
    "2 workers, 1 step, a redrive and any two faults": _of_three(
        Fault.REDRIVE, max_crashes=1, max_errors=1
    ),
    "2 workers, 2 steps, any two faults of different kinds": [
        scope(*_KINDS, together=2, steps=2)
    ],
    "3 workers, 1 step, any two faults of different kinds": [
        scope(*_KINDS, together=2, workers=3)
    ],
}
