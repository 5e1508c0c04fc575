"""What a client is told when it cannot be told event by event."""

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel

from service.domain.events import EventType, event_data
from service.domain.frames import Frame, render_snapshot
from service.domain.job import Job, JsonObject
from service.domain.story import Story
from service.ports.agent import Agent
from service.ports.jobs import JobStore
from service.telemetry.logs import get_log

_log = get_log(__name__)


class Snapshots:
    """Jobs as of their last checkpoint, as events that replace all a client has."""

    def __init__(self, jobs: JobStore, agents: Mapping[str, Agent]) -> None:
        self._jobs = jobs
        self._agents = agents
        self._told: set[str] = set()

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
        """Show where a job stands: `{iterations, completed, current, story}`.

        What an agent does not show properly is left out: that is told to the operator, once.
        """
        agent = self._agents.get(job.agent)
        if agent is None:  # accepted by a process that knew it
            return _bare(job)
        checkpoints = await self._jobs.checkpoints(job)
        try:
            return _checked(agent.snapshot(job, checkpoints))
        except Exception:  # noqa: BLE001 - an agent's bug must not keep its jobs from being read
            self._tell_once(job)
            return _bare(job)

    def _tell_once(self, job: Job) -> None:
        if job.agent not in self._told:
            self._told.add(job.agent)
            _log.exception("agent_snapshot_failed", agent=job.agent, job=str(job.id))


def _bare(job: Job) -> JsonObject:
    story = Story().as_json()
    return {"iterations": list(job.iterations), "completed": [], "current": None, "story": story}


def _checked(snapshot: JsonObject) -> JsonObject:
    """Return a snapshot that clients can be shown; raises what an agent must be told of."""
    shown = _Shown.model_validate(snapshot, strict=True).model_dump()
    orjson.dumps(shown)
    return shown


class _Shown(BaseModel):
    iterations: list[str]
    completed: list[dict[str, Any]]
    current: str | None
    story: dict[str, Any]
