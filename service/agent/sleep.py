"""An agent whose calls only take time, to try out leases, retries and shutdowns."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from pydantic import Field

from service.agent.stepwise import StepwiseAgent
from service.domain.errors import FailureKind, ModelFailure
from service.domain.job import Job, JsonObject
from service.domain.story import Story
from service.domain.usage import Usage, UsageMeter
from service.ports.model import ModelReply, ModelRequest
from service.ports.options import StrictOptions

SLEEP = "sleep"
_MOST_STEPS = 100
_LONGEST_STEP = 600.0


class _Options(StrictOptions):
    steps: int = Field(default=1, ge=1, le=_MOST_STEPS)
    step_seconds: float = Field(default=0.0, ge=0, le=_LONGEST_STEP)
    failures: int = Field(default=0, ge=0)


class SleepModel:
    """A model that waits as long as the request's subject says, and answers with its step."""

    @property
    def name(self) -> str:
        """The adapter's name."""
        return SLEEP

    @property
    def is_limited(self) -> bool:
        """It calls nobody."""
        return False

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


class SleepAgent(StepwiseAgent[_Options]):
    """Makes `steps` calls of `stepSeconds` each; the last one fails `failures` times first."""

    name = SLEEP
    tokens_per_step = 2
    options = _Options

    def __init__(self) -> None:
        super().__init__(SleepModel())

    def steps(self, options: _Options) -> Sequence[str]:
        """Number the steps."""
        return [f"step-{number}" for number in range(1, options.steps + 1)]

    def request(self, job: Job, step: str) -> ModelRequest:
        """Ask for some sleep."""
        is_last = step == job.iterations[-1]
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

    def result(self, job: Job, outcomes: Mapping[str, str]) -> JsonObject:  # noqa: ARG002
        """Return an empty story and the steps."""
        return {"story": Story().as_json(), "steps": list(outcomes.values())}
