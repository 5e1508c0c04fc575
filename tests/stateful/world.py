"""The real stores, streams and loops, all under one spell and beside one model."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast
from uuid import UUID

import asyncpg

from service.api.dependencies import ApiDependencies
from service.api.followups import announce_cancellation, announce_redrive, ring, seal_events
from service.domain.errors import Unavailable
from service.domain.job import NewJob, Owner
from service.domain.tiers import UNLIMITED
from service.maintenance.pruner import Pruner
from service.maintenance.reconciler import Reconciler
from service.maintenance.relay import Relay
from service.postgres.attempt_store import PostgresAttemptStore, PostgresLeaseStore
from service.postgres.dead_letters import PostgresDeadLetterStore
from service.postgres.job_store import PostgresJobStore
from service.postgres.pool import Database
from service.postgres.retention_store import PostgresRetentionStore
from service.postgres.upkeep_store import PostgresUpkeepStore
from service.postgres.usage_ledger import PostgresUsageLedger
from service.streams import keys
from service.streams.connection import Client, command_client, once_client
from service.streams.event_log import RedisEventLog
from service.streams.job_stream import RedisEntryWriter
from service.streams.leftovers import RedisLeftovers
from service.streams.nudges import RedisNudges
from service.streams.pending import RedisPending
from tests.fixtures.database import Stores, open_stores
from tests.fixtures.streams import BOTH
from tests.stateful.faults import WELL, Crashed, Fate, Spell, watched
from tests.stateful.invariants import End, Step, check
from tests.stateful.observation import Observation, observe
from tests.stateful.upkeep_model import UpkeepModel
from tests.stateful.virtual_time import let_pass, reset_clock, restart_server
from tests.stateful.worker import LEASE, MAX_CRASHES, RETENTION, Worker

USER_IN_STREAM: Final = 3
_TABLES: Final = "jobs, checkpoints, idempotency_keys, usage_records, daily_usage"


@dataclass(frozen=True, slots=True)
class Servers:
    """Connections that outlive the examples."""

    stores: Stores
    once: Client
    commands: Client
    postgres: "asyncpg.Connection[asyncpg.Record]"


@asynccontextmanager
async def open_servers(database_url: str, redis_url: str) -> AsyncIterator[Servers]:
    """Connect to a migrated database with a clock of its own, and to Redis."""
    async with AsyncExitStack() as stack:
        once = once_client(redis_url, name="once")
        stack.push_async_callback(once.aclose)
        commands = command_client(redis_url, name="commands")
        stack.push_async_callback(commands.aclose)
        # Redis looks so often who has waited long enough: by default, a BLOCK takes 100 ms.
        often: Any = await commands.config_get("hz")
        await commands.config_set("hz", 500)
        stack.push_async_callback(commands.config_set, "hz", often["hz"])
        database = Database(database_url, name="stateful", size=4)
        stores = await stack.enter_async_context(open_stores(database_url, database))
        postgres = await asyncpg.connect(database_url)
        stack.callback(postgres.terminate)
        yield Servers(stores, once, commands, postgres)


class World:
    """One example's jobs, workers and loops, on emptied servers."""

    def __init__(self, servers: Servers) -> None:
        self.stores = servers.stores
        self.once, self.commands = servers.once, servers.commands
        self.postgres = servers.postgres
        self.spell = Spell()
        self.model = UpkeepModel(USER_IN_STREAM)
        self.seen = Observation()
        self.untold: set[End] = set()
        on, background = servers.stores.database, servers.stores.background
        attempts, ledger = PostgresAttemptStore(on, background), PostgresUsageLedger(on, background)
        jobs = PostgresJobStore(on, attempts, background, user_in_stream=USER_IN_STREAM)
        self.attempts: PostgresAttemptStore = self._watched(attempts)
        self.ledger: PostgresUsageLedger = self._watched(ledger)
        self.jobs: PostgresJobStore = self._watched(jobs)
        self.dead_letters: PostgresDeadLetterStore = self._watched(
            PostgresDeadLetterStore(on, user_in_stream=USER_IN_STREAM)
        )
        self.leases: PostgresLeaseStore = self._watched(PostgresLeaseStore(on))
        self.upkeep: PostgresUpkeepStore = self._watched(PostgresUpkeepStore(on))
        self.events: RedisEventLog = self._watched(RedisEventLog(self.commands, background))
        self.entries: RedisEntryWriter = self._watched(RedisEntryWriter(self.once))
        self.relay = Relay(self.upkeep, self.attempts, self.entries, user_in_stream=USER_IN_STREAM)
        self.reconciler = Reconciler(
            self.upkeep,
            self.attempts,
            self.events,
            RedisPending(self.commands),
            lease=LEASE,
            max_crashes=MAX_CRASHES,
            event_retention=RETENTION,
            wake_relay=lambda: None,
        )
        self.pruner = Pruner(
            PostgresRetentionStore(on),
            RedisLeftovers(self.commands),
            job_days=30,
            ledger_days=400,
            dead_after=0.0,
        )
        self._api = self._api_dependencies()
        self._names: Iterator[str] = (f"worker-{number}" for number in range(1, 10_000))
        self.workers = [self.hire() for _ in range(3)]

    def _watched(self, real: Any) -> Any:
        return watched(real, self.spell, self.model)

    def _api_dependencies(self) -> ApiDependencies:
        """What follows a submission and a cancellation, and nothing else."""
        needed = SimpleNamespace(
            jobs=self.jobs,
            entries=self.entries,
            events=self.events,
            nudges=RedisNudges(self.commands, self.once),
            wake_relay=lambda: None,
            event_retention=RETENTION,
        )
        return cast("ApiDependencies", needed)

    async def empty(self) -> None:
        """Begin with nothing, as a new installation does."""
        await self.postgres.execute(f"TRUNCATE {_TABLES}")
        await reset_clock(self.postgres)
        await self.commands.flushdb()
        await RedisPending(self.commands).ensure_streams()

    def hire(self) -> Worker:
        """A worker that is a new consumer."""
        return Worker(self, next(self._names))

    async def quiet(self) -> None:
        """Return when everything that was begun has ended."""
        assert await self.stores.background.drain(30.0)
        await self.spell.over()

    async def act(
        self, deed: Awaitable[object], *, fate: Fate = WELL, step: Step | None = None
    ) -> bool:
        """Let somebody act, look at everything and check it; returns whether he survived."""
        self.spell.cast(fate)
        # Whatever took effect, the model knows.
        with suppress(Crashed, Unavailable):
            await deed
        await self.quiet()
        survived = not self.spell.has_died
        self.spell.cast(WELL)
        await self.look(step or Step())
        return survived

    async def look(self, step: Step) -> None:
        """Compare what is there with what was there and with the model."""
        jobs = [*self.model.rows, *self.model.purged]
        now = await observe(self.postgres, self.commands, jobs)
        check(self.seen, now, self.model, step, self.untold)
        self.seen = now
        self.model.pending = {entry_id for _, entry_id in now.holders}
        self.model.coming = now.coming

    async def submit(self, job: NewJob) -> None:
        """Accept a job and ring for it, as the API does."""
        accepted = await self.jobs.accept(job)
        if accepted.ring_now:
            await ring(self._api, accepted.job)

    async def cancel(self, job_id: UUID, owner: Owner) -> None:
        """Cancel a job and tell everybody, as the API does."""
        job = await self.jobs.cancel_owned(job_id, owner.tenant_id, owner.user_id)
        await announce_cancellation(self._api, job)

    async def redrive(self, job_id: UUID, owner: Owner) -> None:
        """Queue a failed job again, as the API does."""
        redriven = await self.dead_letters.redrive_owned(
            job_id, owner.tenant_id, owner.user_id, UNLIMITED
        )
        await announce_redrive(self._api, redriven)

    async def purge(self, job_id: UUID, owner: Owner) -> None:
        """Erase an ended job, as the API does."""
        self._forget(job_id)
        await self.events.erase(job_id)
        await self.jobs.purge_owned(job_id, owner.tenant_id, owner.user_id)
        await seal_events(self._api, job_id)

    async def pass_time(self, seconds: int) -> None:
        """Let time pass in both servers; nobody does anything meanwhile."""
        self.model.now += seconds
        await let_pass(self.postgres, seconds)
        for stream in BOTH:
            for held in await self._pending(stream):
                await self.commands.xclaim(
                    stream,
                    keys.GROUP,
                    held["consumer"],
                    min_idle_time=0,
                    message_ids=[held["message_id"]],
                    idle=held["time_since_delivered"] + seconds * 1000,
                    justid=True,
                )

    async def _pending(self, stream: str) -> list[Any]:
        if not await self.has_group(stream):
            return []
        found: Any = await self.commands.xpending_range(stream, keys.GROUP, "-", "+", 10_000)
        return list(found)

    async def consumers(self) -> int:
        """How many consumers the group has."""
        groups = [each for s in BOTH for each in await self._groups(s)]
        return sum(group["consumers"] for group in groups)

    async def has_group(self, stream: str) -> bool:
        """Whether a stream and its group are there."""
        return bool(await self._groups(stream))

    async def _groups(self, stream: str) -> list[Any]:
        if not await self.commands.exists(stream):
            return []
        found: Any = await self.commands.xinfo_groups(stream)
        return list(found)

    async def restart_postgres(self) -> None:
        """Make Postgres young again."""
        self.model.server_started = self.model.now
        await restart_server(self.postgres)

    async def lose_events(self, *job_ids: UUID) -> None:
        """Delete event streams; nobody will tell the end of these jobs again."""
        for job_id in job_ids:
            await self.commands.delete(keys.events(job_id))
            self.model.sealed.discard(job_id)
            self.model.begun.pop(job_id, None)
            self._forget(job_id)

    async def trim_events(self, job_id: UUID, kept: int) -> None:
        """Shorten an event stream, perhaps to nothing."""
        await self.commands.xtrim(keys.events(job_id), maxlen=kept, approximate=False)
        if not kept:
            self._forget(job_id)

    async def lose_everything(self) -> None:
        """Empty Redis, its scripts included."""
        await self.commands.flushdb()
        await self.commands.script_flush()
        self.model.sealed.clear()
        self.model.begun.clear()
        for job_id in self.model.rows:
            self._forget(job_id)

    def _forget(self, job_id: UUID) -> None:
        """Note that a job's end may have been told for the last time."""
        row = self.model.rows.get(job_id)
        if row is None:
            return
        has_been_told = self.seen.ends_with(job_id, row.final_event_id) or not row.event_pending
        if row.status.is_terminal and has_been_told:
            self.untold.add((job_id, row.final_event_id))

    async def destroy_group(self, stream: str) -> None:
        """Forget who reads a stream, and how far."""
        if await self.has_group(stream):
            await self.commands.xgroup_destroy(stream, keys.GROUP)

    async def lose_consumer(self, worker: Worker) -> None:
        """Remove a consumer with all that is pending for it, as an operator may."""
        for stream in BOTH:
            if await self.has_group(stream):
                await self.commands.xgroup_delconsumer(stream, keys.GROUP, worker.name)


def run(loop: asyncio.AbstractEventLoop, deed: Awaitable[Any]) -> Any:
    """Do something on the machine's loop."""

    async def wait() -> Any:
        return await deed

    return loop.run_until_complete(wait())
