"""A model request as the agent makes it, and what tests do with it."""

import asyncio
import time
from collections.abc import Callable
from datetime import date
from typing import Any

from service.agent.anthropic_model import AnthropicModel
from service.agent.model_stub import ModelStub, StubCall
from service.domain.usage import UsageMeter
from service.ports.model import ModelReply, ModelRequest

KEY = "sk-ant-secret_of-the-test"
STORY = "As a keeper of secrets, I want nobody to read this in a log"
SHARED_RULES = "Only what is stated or implied. " * 200

DRAFT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "patches": {
            "type": "array",
            "maxItems": 12,
            "items": {
                "type": "object",
                "properties": {
                    "op": {"enum": ["add", "replace", "remove", "merge"]},
                    "path": {"type": "string"},
                    "id": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "text": {"type": "string", "maxLength": 500},
                    "reason": {"type": "string", "maxLength": 240},
                },
                "required": ["op", "path", "id", "reason"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["patches"],
    "additionalProperties": False,
}

VERIFICATION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "issues": {"type": "array", "items": {"$ref": "#/$defs/Issue"}},
    },
    "required": ["score", "issues"],
    "additionalProperties": False,
    "$defs": {
        "Issue": {
            "type": "object",
            "properties": {"severity": {"enum": ["error", "warning", "info"]}},
            "required": ["severity"],
            "additionalProperties": False,
        }
    },
}


def make_request(**changes: Any) -> ModelRequest:
    """A draft of the validation iteration, with changes."""
    given: dict[str, Any] = {
        "purpose": "draft",
        "model": "claude-sonnet-5-5",
        "system": (SHARED_RULES, "Iteration: validation. You may add to systemAcceptanceCriteria."),
        "user": STORY,
        "schema": DRAFT_SCHEMA,
        "max_output_tokens": 4000,
        "subject": {},
    }
    return ModelRequest(**(given | changes))


def make_model(stub: ModelStub, **changes: Any) -> AnthropicModel:
    """An adapter that calls the stub."""
    given: dict[str, Any] = {"today": lambda: date(2026, 11, 24), "base_url": stub.address}
    return AnthropicModel(KEY, **(given | changes))


async def ask(
    model: AnthropicModel, meter: UsageMeter | None = None, /, **changes: Any
) -> ModelReply:
    """Make one call."""
    return await model.complete(make_request(**changes), meter or UsageMeter(), lambda _: None)


async def until(condition: Callable[[], bool], within: float = 5.0) -> None:
    """Return as soon as the condition holds; fail if it does not in time."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)


async def last_call(stub: ModelStub) -> StubCall:
    """The stub's last call, once it has ended there."""
    await until(lambda: bool(stub.calls) and stub.calls[-1].ended is not None)
    return stub.calls[-1]
