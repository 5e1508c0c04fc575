"""An attempt being processed."""

import asyncio
from typing import Any

from service.domain.job import JsonObject
from service.domain.transitions import Fail
from service.ports.agent import Attempt
from service.telemetry.metrics import REGISTRY
from tests.fixtures.models import ScriptedModel, a_request
from tests.fixtures.waiting import eventually
from tests.unit.worker.attempts import Bench


def ended(ending: str) -> float:
    return REGISTRY.get_sample_value("usa_attempts_ended_total", {"ending": ending}) or 0.0


async def process(bench: Bench) -> "asyncio.Task[None]":
    """The attempt at work."""
    task = asyncio.create_task(bench.processor.process())
    await eventually(lambda: bench.processor._work is not None)
    return task


def paying(model: ScriptedModel) -> Any:
    async def act(attempt: Attempt) -> JsonObject:
        reply = await attempt.pay_once("draft", model, a_request("draft"), lambda _: None)
        return {"text": reply.text}

    return act


async def failing_with(bench: Bench) -> Fail:
    (transition,) = bench.attempts.recorded
    assert isinstance(transition, Fail)
    return transition
