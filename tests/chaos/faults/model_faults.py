"""Faults of the model's server."""

import asyncio
from functools import partial
from time import monotonic

from service.agent.model_stub import Fault, FaultKind
from tests.chaos.faults.injury import Injury, Kind

_CALLS = 6
_PATIENCE = 4.0


async def spoil(injury: Injury, *, fault: Fault) -> None:
    """Let the next calls go wrong; those that no call meets in time are taken back."""
    model = injury.world.model
    model.inject(fault, _CALLS)
    deadline = monotonic() + _PATIENCE
    while model.waiting and monotonic() < deadline:  # noqa: ASYNC110 - calls come when they come
        await asyncio.sleep(0.1)
    injury.evidence = _CALLS - model.waiting
    model.forget()


def _spoiling(**fault: object) -> Kind:
    return Kind(partial(spoil, fault=Fault(**fault)), 4.5)  # type: ignore[arg-type]


KINDS = {
    "model-429-retry-after": _spoiling(kind=FaultKind.REJECT, status=429, retry_after="1"),
    "model-429": _spoiling(kind=FaultKind.REJECT, status=429),
    "model-529": _spoiling(kind=FaultKind.REJECT, status=529),
    "model-500": _spoiling(kind=FaultKind.REJECT, status=500),
    "model-cut-mid-stream": _spoiling(kind=FaultKind.ABORT, after=3),
    "model-cut-before-reply": _spoiling(kind=FaultKind.ABORT, after=None),
    "model-ends-early": _spoiling(kind=FaultKind.END_EARLY, after=3),
    "model-error-event": _spoiling(kind=FaultKind.ERROR_EVENT, after=2),
    "model-hangs": _spoiling(kind=FaultKind.STALL, after=2),
    "model-drips": _spoiling(kind=FaultKind.DRIP, delay=0.8),
    "model-output-malformed": _spoiling(kind=FaultKind.MALFORMED_OUTPUT),
    "model-output-cut": _spoiling(kind=FaultKind.CUT),
}
