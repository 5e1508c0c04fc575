"""An attempt that pays for calls, and what it touches."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from service.domain.attempt import Checkpoint, Fence
from service.domain.events import EventType
from service.domain.job import JsonObject
from service.ports.model import Model
from service.supervision import Background
from service.telemetry.metrics import REGISTRY
from service.worker.running_attempt import RunningAttempt
from service.worker.upstream import UpstreamGate, UpstreamTerms
from tests.fixtures.models import a_request
from tests.fixtures.upstream import MemoryBudget
from tests.fixtures.waiting import eventually
from tests.unit.domain.jobs import JOB, NOON, a_job
from tests.unit.worker.ledger import MemoryLedger

FENCE = Fence(JOB.id, 1)


@dataclass
class Pedals:
    """Brakes that the test steps on."""

    lease_in_doubt: bool = False
    stop_at_next_call: bool = False


@dataclass
class Told:
    """Events, and nothing else."""

    types: list[EventType] = field(default_factory=list)
    details: list[JsonObject] = field(default_factory=list)

    def emit(self, event_type: EventType, details: JsonObject) -> None:
        self.types.append(event_type)
        self.details.append(details)


def an_attempt(
    ledger: MemoryLedger,
    background: Background,
    pedals: Pedals | None = None,
    number: int = 1,
    budget: MemoryBudget | None = None,
) -> RunningAttempt:
    return RunningAttempt(
        a_job(attempt=number),
        ledger.checkpoints,
        events=Told(),
        ledger=ledger,
        background=background,
        brakes=pedals or Pedals(),
        upstream=UpstreamGate(budget or MemoryBudget(), background, UpstreamTerms()),
        now=lambda: NOON,
    )


async def pay(attempt: RunningAttempt, model: Model, step: str = "draft") -> Checkpoint:
    return await attempt.pay_once(step, model, a_request(step), lambda _: None)


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def interrupted(
    work: Coroutine[Any, Any, Checkpoint], when: Callable[[], object]
) -> "asyncio.Task[Checkpoint]":
    """The work, cancelled at a moment."""
    task = asyncio.create_task(work)
    await eventually(when)
    task.cancel()
    await asyncio.wait({task})
    return task
