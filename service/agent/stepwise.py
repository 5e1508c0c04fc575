"""Agents whose jobs are a list of steps, with one model call each."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from service.agent.replies import is_refusal
from service.domain.attempt import Checkpoint
from service.domain.errors import JobFailure
from service.domain.events import EventType
from service.domain.job import Job, JobStatus, JsonObject
from service.domain.spending import models_of, spent
from service.domain.story import Story
from service.ports.agent import AgentPlan, Attempt
from service.ports.model import Model, ModelRequest
from service.ports.options import StrictOptions, read_options, refuse_iterations

Declared = TypeVar("Declared", bound=StrictOptions)


class StepwiseAgent(ABC, Generic[Declared]):
    """Takes its steps in order, and after a crash goes on with the first one not paid yet.

    Steps are shown as iterations, so a tier limits how many there are. Without a `model` the
    agent can plan and show jobs, not run them.
    """

    name: ClassVar[str]
    tokens_per_step: ClassVar[int]
    options: type[Declared]

    def __init__(self, model: Model | None) -> None:
        self._model = model

    @abstractmethod
    def steps(self, options: Declared) -> Sequence[str]:
        """Name the steps of a job; each is taken once; raises `InvalidInput`."""

    @abstractmethod
    def request(self, job: Job, step: str) -> ModelRequest:
        """Write the model call of a step."""

    def read(self, reply: Checkpoint) -> Any:
        """Return what a step came to; raises `JobFailure` for a reply that cannot be used."""
        return reply.text

    @abstractmethod
    def result(self, job: Job, outcomes: Mapping[str, Any]) -> JsonObject:
        """Return the job's result, from what each step came to; what it cost is added."""

    def plan(
        self,
        story: str,  # noqa: ARG002
        mode: str,  # noqa: ARG002
        iterations: Sequence[str] | None,
        options: JsonObject,
    ) -> AgentPlan:
        """Check a submission and name its steps; raises `InvalidInput`."""
        refuse_iterations(iterations)
        read = read_options(self.options, options)
        steps = tuple(dict.fromkeys(self.steps(read)))
        tokens = self.tokens_per_step * len(steps)
        return AgentPlan(iterations=steps, options=read.as_json(), estimated_tokens=tokens)

    async def run(self, attempt: Attempt) -> JsonObject:
        """Make the calls that earlier attempts have not finished; raises `JobFailure`."""
        if self._model is None:
            raise RuntimeError("this process has no model")
        steps, done = attempt.job.iterations, _done(attempt.job, attempt.checkpoints)
        attempt.emit(EventType.START, {**_overview(steps, done), "resumed": bool(done)})
        outcomes = {step: self._read(step, reply) for step, reply in done.items()}
        for index, step in enumerate(steps[len(done) :], start=len(done) + 1):
            place = {"iteration": step, "index": index, "total": len(steps)}
            attempt.emit(EventType.ITERATION_START, place)
            request = self.request(attempt.job, step)
            reply = await attempt.pay_once(_call(step), self._model, request, _ignore)
            outcomes[step], done[step] = self._read(step, reply), reply
            attempt.emit(EventType.ITERATION_COMPLETE, _completion(step, reply))
        replies = list(done.values())
        result = self.result(attempt.job, outcomes)
        return {**result, **spent(replies), "models": models_of(replies)}

    def snapshot(self, job: Job, checkpoints: Mapping[str, Checkpoint]) -> JsonObject:
        """Show the job as of its last checkpoint."""
        done = _done(job, checkpoints)
        left = job.iterations[len(done) :]
        current = left[0] if left and job.status is JobStatus.PROCESSING else None
        return {**_overview(job.iterations, done), "current": current}

    def _read(self, step: str, reply: Checkpoint) -> Any:
        if is_refusal(reply):
            raise JobFailure("MODEL_REFUSED", f"the model refused to work on {step}")
        return self.read(reply)


def _done(job: Job, checkpoints: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    done = {}
    for step in job.iterations:
        reply = checkpoints.get(_call(step))
        if reply is None:
            break
        done[step] = reply
    return done


def _call(step: str) -> str:
    return f"{step}/draft"


def _overview(steps: Sequence[str], done: Mapping[str, Checkpoint]) -> JsonObject:
    completed = [_completion(step, reply) for step, reply in done.items()]
    return {"iterations": list(steps), "completed": completed, "story": Story().as_json()}


def _completion(step: str, reply: Checkpoint) -> JsonObject:
    return {"iteration": step, "applied": [], "verification": None, **spent((reply,))}


def _ignore(text: str) -> None:
    """Nobody is shown half a reply."""
