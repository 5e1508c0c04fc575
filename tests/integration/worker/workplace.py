"""Workers to start and stop, jobs for them, and looks at what became of the jobs."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import pytest

from service.agent.noop import NoopAgent
from service.agent.registry import register
from service.agent.sleep import SleepAgent
from service.bootstrap.connections import Connections, open_connections
from service.bootstrap.worker import running_pool
from service.domain.attempt import Delivery, Fence
from service.domain.events import BEGINNING
from service.domain.frames import Frame
from service.domain.job import Job, JobStatus, JsonObject, NewJob
from service.domain.tiers import UNLIMITED, Tier
from service.maintenance.reconciler import Reconciler
from service.maintenance.relay import Relay
from service.ports.agent import Agent, Attempt
from service.settings import Settings
from service.streams.pending import RedisPending
from service.supervision import Background, Wakeup
from service.worker.pool import WorkerPool
from tests.fixtures.agents import Acting
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import an_id, an_owner
from tests.fixtures.models import ScriptedModel, a_request
from tests.fixtures.streams import JobStreams
from tests.fixtures.waiting import eventually
from tests.integration.worker.watching import Watch

# Whatever must not wait for a lease would wait for longer than any of these tests.
LONG_LEASE: dict[str, Any] = {"lease": 60.0, "renew_every": 0.5}


def calling(model: ScriptedModel, *steps: str) -> Acting:
    """An agent that makes one call per step."""

    async def act(attempt: Attempt) -> JsonObject:
        texts = []
        for step in steps or ("draft",):
            reply = await attempt.pay_once(step, model, a_request(step), lambda _: None)
            texts.append(reply.text)
        return {"texts": texts}

    return Acting(act)


@dataclass
class Workplace:
    """Workers, Redis and Postgres of one test."""

    settings: Settings
    stores: Stores
    observer: Observer
    streams: JobStreams
    connections: Connections
    patch: pytest.MonkeyPatch
    crashes: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def worker(
        self, *agents: Agent, watch: Watch | None = None, **changes: Any
    ) -> AsyncIterator[WorkerPool]:
        """A worker with connections and tasks of its own; leaving stops it."""
        settings = self.settings.model_copy(update=changes)
        background = Background()
        vital = Background(on_crash=lambda: self.crashes.append("vital"))
        watch = watch or Watch()
        self._staff(agents, watch)
        async with open_connections(settings, "worker", background) as connections:
            watched = watch.watched(connections, background)
            try:
                async with running_pool(
                    settings, watched, background, vital, wake_relay=Wakeup()
                ) as pool:
                    yield pool
            finally:
                await background.drain(2.0)
                await vital.cancel()
                await background.cancel()

    def _staff(self, agents: Sequence[Agent], watch: Watch) -> None:
        @asynccontextmanager
        async def staff(_: Settings) -> AsyncIterator[Mapping[str, Agent]]:
            yield register([NoopAgent(), SleepAgent(), *agents])

        self.patch.setattr("service.bootstrap.worker.running_agents", staff)
        self.patch.setattr("service.bootstrap.worker.RedisJobStream", watch.stream)

    async def accept(
        self,
        agent: str = "acting",
        *,
        steps: int = 1,
        seconds: float = 0.0,
        failures: int = 0,
        deadline: float = 3600.0,
        tier: Tier = UNLIMITED,
    ) -> UUID:
        """A queued job without an entry; `steps` to `failures` say what the sleep agent does."""
        options = {"steps": steps, "stepSeconds": seconds, "failures": failures}
        new = NewJob(
            id=an_id(),
            owner=an_owner(),
            agent=agent,
            mode="individual",
            story="x",
            iterations=tuple(f"step-{number}" for number in range(1, steps + 1)),
            options=options if agent == "sleep" else {},
            deadline_seconds=deadline,
            tier=tier,
            reserved_tokens=1000,
        )
        return (await self.stores.jobs.accept(new)).job.id

    async def submit(self, agent: str = "acting", **options: Any) -> UUID:
        """A queued job with an entry."""
        job_id = await self.accept(agent, **options)
        await self.ring(job_id)
        return job_id

    async def ring(self, job_id: UUID, attempt: int = 0) -> Delivery:
        """Add an entry for a job and note where it is."""
        entry = await self.streams.entries.add_entry(job_id, attempt, None)
        job = await self.job(job_id)
        await self.stores.attempts.mark_entry(Fence(job_id, job.attempt), entry.entry_id)
        return entry

    async def job(self, job_id: UUID) -> Job:
        """The job as it stands."""
        job = await self.stores.attempts.get(job_id)
        assert job is not None
        return job

    async def ended(self, *job_ids: UUID, within: float = 10.0) -> list[JobStatus]:
        """The statuses of jobs once all have ended."""

        async def statuses() -> list[JobStatus]:
            found = [(await self.job(job_id)).status for job_id in job_ids]
            return found if all(status.is_terminal for status in found) else []

        return await eventually(statuses, within=within, what="the jobs end")

    async def has_status(self, job_id: UUID, status: JobStatus, within: float = 5.0) -> Job:
        """The job as soon as it has a status."""

        async def look() -> Job | None:
            job = await self.job(job_id)
            return job if job.status is status else None

        return await eventually(look, within=within, what=f"the job is {status}")

    async def is_idle(self, within: float = 5.0) -> None:
        """Return once no entry is left in any stream."""

        async def look() -> bool:
            return await self.streams.entry_ids() == []

        await eventually(look, within=within, what="no entry is left")

    async def frames(self, job_id: UUID) -> list[Frame]:
        """The job's events."""
        return await self.connections.events.read_after(job_id, BEGINNING, 1000)

    async def terminal_events(self, job_id: UUID) -> list[str]:
        """The types of the events with which the job ended."""
        types = [frame.type for frame in await self.frames(job_id)]
        return [kind for kind in types if kind in {"complete", "error", "cancelled"}]

    async def event(self, job_id: UUID, kind: str) -> JsonObject:
        """The data of the job's only event of a type."""
        (data,) = [f.data for f in await self.frames(job_id) if f.type == kind]
        found: JsonObject = orjson.loads(data)
        return found

    async def ledger(self, job_id: UUID) -> list[tuple[int, str, str | None]]:
        """(attempt, step, ending) of every call, in order."""
        rows = await self.observer.connection.fetch(
            "SELECT attempt, step, ending FROM usage_records WHERE job_id = $1"
            " ORDER BY attempt, call",
            job_id,
        )
        return [(row["attempt"], row["step"], row["ending"]) for row in rows]

    def relay(self) -> Relay:
        """The loop that gives queued jobs their entries."""
        to = self.connections
        return Relay(to.upkeep, to.attempts, to.entries, user_in_stream=0)

    def reconciler(self) -> Reconciler:
        """The loop that repairs what is left behind."""
        to = self.connections
        return Reconciler(
            to.upkeep, to.attempts, to.events, RedisPending(to.commands),
            lease=self.settings.lease, max_crashes=3, event_retention=60.0,
            wake_relay=lambda: None,
        )  # fmt: skip
