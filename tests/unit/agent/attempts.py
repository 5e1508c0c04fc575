"""An attempt over a dict of checkpoints, and a model that answers from a script."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from service.domain.attempt import Checkpoint
from service.domain.events import EventType
from service.domain.job import Job, JobStatus, JsonObject, Owner
from service.domain.usage import Usage, UsageMeter
from service.ports.model import Model, ModelReply, ModelRequest

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
STORY = """# Sign in

As a returning customer, I want to log in so that I can see my orders.

Acceptance criteria:
- Given a known customer, when they give the right password, then they are let in
- The password is never shown
"""


def a_job(
    *iterations: str,
    story: str = STORY,
    options: JsonObject | None = None,
    error_count: int = 0,
    status: JobStatus = JobStatus.PROCESSING,
) -> Job:
    return Job(
        id=UUID(int=7),
        owner=Owner("tenant", "user"),
        agent="user-story",
        mode="individual",
        story=story,
        iterations=iterations,
        options={} if options is None else options,
        status=status,
        attempt=1,
        error_count=error_count,
        created_at=NOON,
        available_at=NOON,
        deadline_at=NOON + timedelta(hours=1),
    )


class Crash(Exception):
    """The process dies right after a step was written down."""


@dataclass
class DictAttempt:
    """Keeps checkpoints in a dict that outlives it, like the database does."""

    job: Job
    stored: dict[str, Checkpoint] = field(default_factory=dict)
    steps_until_crash: int | None = None
    events: list[tuple[EventType, JsonObject]] = field(default_factory=list)
    paid: list[str] = field(default_factory=list)

    @property
    def checkpoints(self) -> Mapping[str, Checkpoint]:
        return self.stored

    def emit(self, event_type: EventType, details: JsonObject) -> None:
        # A round trip through JSON, as events really take.
        self.events.append((event_type, orjson.loads(orjson.dumps(details))))

    async def pay_once(
        self, step: str, model: Model, request: ModelRequest, on_text: Callable[[str], None]
    ) -> Checkpoint:
        assert step not in self.stored, f"{step} would be paid twice"
        meter = UsageMeter()
        reply = await model.complete(request, meter, on_text)
        stored = Checkpoint(
            step=step,
            text=reply.text,
            stop_reason=reply.stop_reason,
            model=reply.model,
            usage=reply.usage,
            cost_usd=model.cost_usd(request.model, reply.usage),
            duration_ms=10 * (len(self.stored) + 1),
        )
        self.stored[step] = Checkpoint.from_json(step, orjson.loads(orjson.dumps(stored.as_json())))
        self.paid.append(step)
        if self.steps_until_crash is not None:
            self.steps_until_crash -= 1
            if self.steps_until_crash == 0:
                raise Crash
        return self.stored[step]

    def types(self) -> list[EventType]:
        return [event_type for event_type, _ in self.events]

    def details(self, event_type: EventType) -> list[JsonObject]:
        return [details for kind, details in self.events if kind is event_type]


def drafted(*patches: Any) -> str:
    return orjson.dumps({"patches": patches}).decode()


def added(text: str, path: str = "outcomeAcceptanceCriteria") -> JsonObject:
    return {"op": "add", "path": path, "text": text, "reason": "It is implied."}


def reviewed(score: float, *severities: str) -> str:
    issues = [
        {"severity": severity, "category": "invention", "description": f"issue {number}"}
        for number, severity in enumerate(severities)
    ]
    return orjson.dumps({"score": score, "issues": issues}).decode()


@dataclass
class ScriptedModel:
    """Answers each step by name, else with an empty draft or an approving review."""

    script: dict[str, str] = field(default_factory=dict)
    stop_reasons: dict[str, str] = field(default_factory=dict)
    chunk: int = 7
    price: Decimal | None = Decimal("0.001")
    requests: list[ModelRequest] = field(default_factory=list)

    @property
    def name(self) -> str:
        return "scripted"

    def estimate_input_tokens(self, request: ModelRequest) -> int:
        return len(request.user)

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:
        return self.price

    async def complete(
        self, request: ModelRequest, meter: UsageMeter, on_text: Callable[[str], None]
    ) -> ModelReply:
        self.requests.append(request)
        step = f"{request.subject['iteration']}/{request.subject['phase']}"
        otherwise = reviewed(0.9) if "verify" in step else drafted()
        text = self.script.get(step, otherwise)
        for start in range(0, len(text), self.chunk):
            on_text(text[start : start + self.chunk])
        return ModelReply(
            text=text,
            stop_reason=self.stop_reasons.get(step, "end_turn"),
            usage=Usage(100, 20, 5, 3),
            model=request.model,
        )
