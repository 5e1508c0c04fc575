"""An agent that ends at once, to measure everything around agents."""

from collections.abc import Mapping, Sequence

from service.domain.attempt import Checkpoint
from service.domain.job import Job, JsonObject
from service.domain.spending import models_of, spent
from service.domain.story import Story
from service.ports.agent import AgentPlan, Attempt
from service.ports.options import StrictOptions, read_options, refuse_iterations


class NoopAgent:
    """Makes no call, emits no event and returns an empty story."""

    @property
    def name(self) -> str:
        """The value of a job's `agent`."""
        return "noop"

    def plan(
        self,
        story: str,  # noqa: ARG002
        mode: str,  # noqa: ARG002
        iterations: Sequence[str] | None,
        options: JsonObject,
    ) -> AgentPlan:
        """Accept any story, without iterations and options."""
        refuse_iterations(iterations)
        read_options(StrictOptions, options)
        return AgentPlan(iterations=(), options={}, estimated_tokens=0)

    async def run(self, attempt: Attempt) -> JsonObject:  # noqa: ARG002
        """Return at once."""
        return {"story": Story().as_json(), **spent(()), "models": models_of(())}

    def snapshot(self, job: Job, checkpoints: Mapping[str, Checkpoint]) -> JsonObject:  # noqa: ARG002
        """Show that there is nothing to see."""
        story = Story().as_json()
        return {"iterations": [], "completed": [], "current": None, "story": story}
