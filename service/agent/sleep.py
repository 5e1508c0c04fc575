"""An agent whose calls only take time, to try out leases, retries and shutdowns."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from service.agent.spending import models_of, spent
from service.domain.attempt import Checkpoint
from service.domain.errors import FailureKind, FieldError, InvalidInput, ModelFailure
from service.domain.events import EventType
from service.domain.job import Job, JobStatus, JsonObject
from service.domain.story import Story
from service.domain.usage import Usage, UsageMeter
from service.ports.agent import AgentPlan, Attempt
from service.ports.model import ModelReply, ModelRequest

SLEEP = "sleep"
_MOST_STEPS = 100
_LONGEST_STEP = 600.0
_TOKENS_PER_STEP = 2


class _Options(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, alias_generator=to_camel, allow_inf_nan=False
    )

    steps: int = Field(default=1, ge=1, le=_MOST_STEPS)
    step_seconds: float = Field(default=0.0, ge=0, le=_LONGEST_STEP)
    failures: int = Field(default=0, ge=0)


class SleepModel:
    """A model that waits as long as the request's subject says, and answers with its step."""

    @property
    def name(self) -> str:
        """The adapter's name."""
        return SLEEP

    def estimate_input_tokens(self, request: ModelRequest) -> int:  # noqa: ARG002
        """Every call reads one token."""
        return 1

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:  # noqa: ARG002
        """Return 0: it costs nothing, and that is known."""
        return Decimal(0)

    async def complete(
        self, request: ModelRequest, meter: UsageMeter, on_text: Callable[[str], None]
    ) -> ModelReply:
        """Wait, then answer, or fail if the subject says so."""
        meter.model = SLEEP
        meter.usage = Usage(input=1, estimated=True)
        await asyncio.sleep(request.subject["seconds"])
        if request.subject["fails"]:
            message = "the sleep agent was asked to fail"
            raise ModelFailure("MODEL_UNAVAILABLE", message, kind=FailureKind.TRANSIENT)
        meter.usage = Usage(input=1, output=1)
        on_text(request.user)
        return ModelReply(text=request.user, stop_reason="end_turn", usage=meter.usage, model=SLEEP)


class SleepAgent:
    """Makes `steps` calls of `stepSeconds` each; the last one fails `failures` times first."""

    def __init__(self) -> None:
        self._model = SleepModel()

    @property
    def name(self) -> str:
        """The value of a job's `agent`."""
        return SLEEP

    def plan(
        self,
        story: str,  # noqa: ARG002
        mode: str,  # noqa: ARG002
        iterations: Sequence[str] | None,
        options: JsonObject,
    ) -> AgentPlan:
        """Check the options; raises `InvalidInput`."""
        if iterations:
            message = "the sleep agent takes no iterations"
            raise InvalidInput(message, errors=[FieldError("iterations", message)])
        try:
            read = _Options.model_validate(options)
        except ValidationError as error:
            errors = [
                FieldError(".".join(("options", *map(str, each["loc"]))), each["msg"])
                for each in error.errors()
            ]
            raise InvalidInput("some options are not valid", errors=errors) from None
        return AgentPlan(
            iterations=tuple(f"step-{number}" for number in range(1, read.steps + 1)),
            options=read.model_dump(by_alias=True),
            estimated_tokens=_TOKENS_PER_STEP * read.steps,
        )

    async def run(self, attempt: Attempt) -> JsonObject:
        """Make the calls that earlier attempts have not finished."""
        steps, done = attempt.job.iterations, _done(attempt.job, attempt.checkpoints)
        start = {"iterations": list(steps), "resumed": bool(done), "completed": _completed(done)}
        attempt.emit(EventType.START, {**start, "story": Story().as_json()})
        for index, step in enumerate(steps[len(done) :], start=len(done) + 1):
            place = {"iteration": step, "index": index, "total": len(steps)}
            attempt.emit(EventType.ITERATION_START, place)
            is_last = index == len(steps)
            request = _request(attempt.job, step, is_last=is_last)
            reply = await attempt.pay_once(_step_name(step), self._model, request, _ignore)
            done[step] = reply
            attempt.emit(EventType.ITERATION_COMPLETE, _completion(step, reply))
        replies = list(done.values())
        return {
            "story": Story().as_json(),
            "steps": [reply.text for reply in replies],
            **spent(replies),
            "models": models_of(replies),
        }

    def snapshot(self, job: Job, checkpoints: Mapping[str, Checkpoint]) -> JsonObject:
        """Show the job as of its last checkpoint."""
        done = _done(job, checkpoints)
        left = job.iterations[len(done) :]
        return {
            "iterations": list(job.iterations),
            "completed": _completed(done),
            "current": left[0] if left and job.status is JobStatus.PROCESSING else None,
            "story": Story().as_json(),
        }


def _done(job: Job, checkpoints: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    done = {}
    for step in job.iterations:
        reply = checkpoints.get(_step_name(step))
        if reply is None:
            break
        done[step] = reply
    return done


def _step_name(step: str) -> str:
    return f"{step}/draft"


def _completed(done: Mapping[str, Checkpoint]) -> list[JsonObject]:
    return [_completion(step, reply) for step, reply in done.items()]


def _completion(step: str, reply: Checkpoint) -> JsonObject:
    return {"iteration": step, "applied": [], "verification": None, **spent((reply,))}


def _request(job: Job, step: str, *, is_last: bool) -> ModelRequest:
    return ModelRequest(
        purpose="sleep",
        model=SLEEP,
        system=(),
        user=step,
        schema={},
        max_output_tokens=1,
        subject={
            "seconds": job.options["stepSeconds"],
            "fails": is_last and job.error_count < job.options["failures"],
        },
    )


def _ignore(text: str) -> None:
    """Nobody watches a sleeper's text."""
