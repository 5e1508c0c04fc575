"""One rule broken at a time, each in a scope that is just large enough to show what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from tests.models.invariants import CAN_END
from tests.models.moves import Scope
from tests.models.rules import Rules
from tests.models.state import Fault


@dataclass(frozen=True, slots=True)
class Mutant:
    """What somebody might write, and which invariant it breaks."""

    rules: Rules
    breaks: str
    scope: Scope


def _with(*faults: Fault, **bounds: int) -> Scope:
    kinds = {fault: faults.count(fault) for fault in faults}
    return Scope(**{"workers": 2, "steps": 1, "together": len(faults), "faults": kinds, **bounds})
