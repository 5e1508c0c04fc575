"""A job that is run by hand, so that a test decides when what is told."""

from dataclasses import dataclass
from uuid import UUID

from service.domain.attempt import Fence, Verdict
from service.domain.events import EventId, EventType, JobEvent, event_data, final_event
from service.domain.job import JsonObject
from service.domain.transitions import Complete, Fail
from tests.fixtures.deployment import Deployment
from tests.fixtures.factories import a_delivery, terms

RETENTION = 60.0


@dataclass
class Author:
    """Claims a job, tells its events one by one and ends it."""

    deployment: Deployment
    job_id: UUID
    attempt: int = 0
    seq: int = 0

    @classmethod
    async def of_new_job(cls, deployment: Deployment) -> "Author":
        """Submit a job and start it."""
        author = cls(deployment, await deployment.submit(agent="noop"))
        await author.claim()
        return author

    async def claim(self) -> None:
        """Begin the next attempt, as the worker that had the last one and forgot."""
        by = terms("author", lease=3600.0)
        [claim] = await self.deployment.stores.attempts.claim([a_delivery(self.job_id)], by)
        assert claim.verdict is Verdict.CLAIMED
        self.attempt, self.seq = claim.fence.attempt, 0

    async def tell(self, count: int = 1, *, text: str = "") -> list[str]:
        """Append as many events at once; returns their ids."""
        events = [self._next(EventType.ITERATION_PROGRESS, {"text": text}) for _ in range(count)]
        assert (await self.deployment.log.append(self.job_id, events, RETENTION)).is_complete
        return [str(event.id) for event in events]

    def _next(self, event_type: EventType, details: JsonObject) -> JobEvent:
        self.seq += 1
        place = {"iteration": f"step-{self.seq}", **details}
        data = event_data(event_type, self.job_id, self.attempt, place)
        return JobEvent(EventId(self.attempt, self.seq), event_type, data)

    async def commit(self, how: Complete | Fail | None = None) -> JobEvent:
        """Complete the job, or end it so, in Postgres alone; returns the event that is owed."""
        self.seq += 1
        final = EventId(self.attempt, self.seq)
        recorded = await self.deployment.stores.attempts.record_if_current(
            Fence(self.job_id, self.attempt), how or Complete({"story": {}}), final
        )
        assert recorded.applied
        job = await self.deployment.stores.attempts.get(self.job_id)
        assert job is not None
        event = final_event(job)
        assert event is not None
        return event

    async def complete(self) -> str:
        """Complete the job and tell; returns the last id."""
        return await self.announce(await self.commit())

    async def fail(self) -> str:
        """Fail the job and tell; returns the last id."""
        return await self.announce(await self.commit(Fail("MODEL_REFUSED", "it refused")))

    async def announce(self, event: JobEvent) -> str:
        """Tell of an end that was committed; returns its id."""
        assert (await self.deployment.log.append(self.job_id, [event], RETENTION)).is_complete
        await self.deployment.stores.attempts.clear_event_pending(self.job_id, event.id)
        return str(event.id)
