"""What a client is told when it cannot be told event by event."""

from collections.abc import Mapping

from service.domain.events import EventType, event_data
from service.domain.frames import Frame, render_snapshot
from service.domain.job import Job, JsonObject
from service.domain.story import Story
from service.ports.agent import Agent
from service.ports.jobs import JobStore


class Snapshots:
    """Jobs as of their last checkpoint, as events that replace all a client has."""

    def __init__(self, jobs: JobStore, agents: Mapping[str, Agent]) -> None:
        self._jobs = jobs
        self._agents = agents

    async def connected(self, job: Job) -> Frame:
        """Render the first event of every connection; raises `Unavailable`."""
        return await self._render(EventType.CONNECTED, job)

    async def resync(self, job: Job) -> Frame:
        """Render the event that stands for history that was lost; raises `Unavailable`."""
        return await self._render(EventType.RESYNC, job)

    async def _render(self, event_type: EventType, job: Job) -> Frame:
        details = {"status": job.status.value, **await self.of(job)}
        return render_snapshot(event_type, event_data(event_type, job.id, job.attempt, details))

    async def of(self, job: Job) -> JsonObject:
        """Show where a job stands: `{iterations, completed, current, story}`."""
        agent = self._agents.get(job.agent)
        if agent is None:  # accepted by a process that knew it
            story = Story().as_json()
            iterations = list(job.iterations)
            return {"iterations": iterations, "completed": [], "current": None, "story": story}
        return agent.snapshot(job, await self._jobs.checkpoints(job.id))
