"""A relay and a reconciler with real servers under them, and looks at what they did."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from service.domain.attempt import Delivery, Fence
from service.domain.job import Job, Owner
from service.maintenance.reconciler import Reconciler
from service.maintenance.relay import Relay
from service.ports.queue import EntryWriter
from service.ports.upkeep import PendingEntries
from service.streams import keys
from service.streams.event_log import RedisEventLog
from service.streams.pending import RedisPending
from service.supervision import Wakeup
from tests.fixtures.database import Observer, Stores
from tests.fixtures.streams import BOTH, JobStreams
from tests.integration.postgres.steps import accepted, row_of

# Postgres has always been up for longer than that.
LEASE = 0.01
RETENTION = 60.0


class Upkeep:
    """What maintenance of one process works with; the relay is not run by itself."""

    def __init__(self, stores: Stores, observer: Observer, streams: JobStreams) -> None:
        self.stores = stores
        self.observer = observer
        self.streams = streams
        self.pending = RedisPending(streams.commands)
        self.events = RedisEventLog(streams.commands, stores.background)
        self.wake_relay = Wakeup()
        self.relay = self.another_relay()
        self.reconciler = self.another_reconciler()

    def another_relay(
        self,
        stores: Stores | None = None,
        *,
        entries: EntryWriter | None = None,
        user_in_stream: int = 10,
    ) -> Relay:
        """A relay as another process would run it."""
        on = stores or self.stores
        return Relay(
            on.upkeep, on.attempts, entries or self.streams.entries, user_in_stream=user_in_stream
        )

    def another_reconciler(
        self, *, pending: PendingEntries | None = None, max_crashes: int = 3
    ) -> Reconciler:
        """A reconciler as another process would run it."""
        return Reconciler(
            self.stores.upkeep,
            self.stores.attempts,
            self.events,
            pending or self.pending,
            lease=LEASE,
            max_crashes=max_crashes,
            event_retention=RETENTION,
            wake_relay=self.wake_relay,
        )

    async def is_relay_woken(self) -> bool:
        """Whether the relay has been woken since this was asked last."""
        return await self.wake_relay.wait(0.0)

    async def due(self, owner: Owner | None = None, count: int = 1) -> list[Job]:
        """Accepted jobs whose own process has not added their entries in time."""
        jobs = [await accepted(self.stores, owner) for _ in range(count)]
        await self.let_pass(3.0)
        return jobs

    async def in_stream(self, owner: Owner | None = None, count: int = 1) -> list[Job]:
        """Accepted jobs with their entries, added one after another."""
        jobs = [await accepted(self.stores, owner) for _ in range(count)]
        for job in jobs:
            await self.ring(Fence(job.id, 0))
        return jobs

    async def ring(self, fence: Fence) -> Delivery:
        """Add a job's entry and mark it, as its own process would."""
        entry = await self.streams.entries.add_entry(fence.job_id, fence.attempt, None)
        await self.stores.attempts.mark_entry(fence, entry.entry_id)
        return entry

    async def let_pass(self, seconds: float) -> None:
        """As if so much time had passed for what waits for the relay, or owes an event."""
        await self.observer.run(
            "UPDATE jobs SET relay_after = relay_after - make_interval(secs => $1),"
            " available_at = available_at - make_interval(secs => $1),"
            " completed_at = completed_at - make_interval(secs => $1)",
            seconds,
        )

    async def row(self, job: Job | UUID) -> dict[str, Any]:
        """A job's row."""
        return await row_of(self.observer, job if isinstance(job, UUID) else job.id)

    async def entry_ids(self, jobs: Sequence[Job]) -> list[object]:
        """The entries that the rows name."""
        return [(await self.row(job))["entry_id"] for job in jobs]

    async def entries(self) -> dict[str, UUID]:
        """Every entry of both streams, and its job."""
        return {
            entry_id.decode(): UUID(fields[b"job"].decode())
            for stream in BOTH
            for entry_id, fields in await self.entries_of(stream)
        }

    async def entries_of(self, stream: str) -> list[Any]:
        """One stream as it is."""
        found: Any = await self.streams.commands.xrange(stream)
        return list(found)

    async def event_ids(self, job_id: UUID) -> list[str]:
        """The ids of a job's events."""
        found: Any = await self.streams.commands.xrange(keys.events(job_id))
        return [entry_id.decode() for entry_id, _ in found]
