"""Agents, and the attempts that run them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.domain.attempt import Checkpoint
from service.domain.events import EventType
from service.domain.job import Job, JsonObject
from service.ports.model import Model, ModelRequest


class Attempt(Protocol):
    """What an agent sees of the attempt that runs it."""

    @property
    def job(self) -> Job:
        """The job as claimed."""
        ...

    @property
    def checkpoints(self) -> Mapping[str, Checkpoint]:
        """Finished model calls of earlier attempts and of this one, by step."""
        ...

    def emit(self, event_type: EventType, details: JsonObject) -> None:
        """Queue a durable event, in order; never blocks and never fails the job."""
        ...

    async def pay_once(
        self, step: str, model: Model, request: ModelRequest, on_text: Callable[[str], None]
    ) -> Checkpoint:
        """Return the step's checkpoint, making its model call only if none is written down.

        Raises `ModelFailure`; is cancelled when the job is cancelled or lost.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPlan:
    """What an agent will do with an accepted submission."""

    iterations: tuple[str, ...]
    options: JsonObject
    estimated_tokens: int


class Agent(Protocol):
    """A worker of one kind of job, registered by name."""

    @property
    def name(self) -> str:
        """The value of a job's `agent`."""
        ...

    def plan(
        self, story: str, mode: str, iterations: Sequence[str] | None, options: JsonObject
    ) -> AgentPlan:
        """Check a submission and fill in its defaults; raises `InvalidInput`."""
        ...

    async def run(self, attempt: Attempt) -> JsonObject:
        """Do the work and return the result; raises `JobFailure`."""
        ...

    def snapshot(self, job: Job, checkpoints: Mapping[str, Checkpoint]) -> JsonObject:
        """Show the job as of its last checkpoint, without side effects.

        Keys: `iterations` (ids), `completed` (a list in the form of `iteration:complete`
        details), `current` (id or None), `story` (structured).
        """
        ...
