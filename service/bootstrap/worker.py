"""Builds a worker: its pool, its leases, its read loop's connections."""

import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from service.bootstrap.agents import running_agents
from service.bootstrap.checkup import warn_of_models
from service.bootstrap.connections import Connections, database_url, redis_url
from service.domain.retry import RetryPolicy
from service.domain.upstream import Rates
from service.ports.attempts import LeaseStore
from service.ports.queue import EntryLeases
from service.postgres.attempt_store import PostgresLeaseStore
from service.postgres.pool import Database
from service.postgres.queue_control import PostgresQueueControl
from service.settings import Settings
from service.streams.connection import once_client
from service.streams.job_stream import RedisEntryLeases, RedisJobStream
from service.streams.upstream_budget import RedisUpstreamBudget
from service.supervision import Background, Wakeup
from service.worker.acknowledger import Acknowledger
from service.worker.dependencies import AttemptDependencies, WorkerTerms
from service.worker.leases import LeaseKeeper
from service.worker.pool import WorkerPool
from service.worker.upstream import UpstreamGate, UpstreamTerms

# Entries outlive their lease a little, so that Postgres has said "expired" when one is reclaimed.
_IDLE_MARGIN = 1.0
_LONGEST_HOST_NAME = 40


def new_worker_id() -> str:
    """Return a name that no other process has or had; it starts with the host's."""
    return f"{socket.gethostname()[:_LONGEST_HOST_NAME]}-{secrets.token_hex(4)}"


@asynccontextmanager
async def running_pool(
    settings: Settings,
    connections: Connections,
    background: Background,
    vital: Background,
    *,
    wake_relay: Wakeup,
) -> AsyncIterator[WorkerPool]:
    """Run jobs inside this block; leaving it drains and hands back."""
    worker_id = new_worker_id()
    async with AsyncExitStack() as stack:
        agents = await stack.enter_async_context(running_agents(settings))
        # BLOCK occupies a connection, so the read loop has its own.
        reader = once_client(
            redis_url(settings), name=f"{worker_id}-reader", timeout=settings.socket_timeout
        )
        stack.push_async_callback(reader.aclose)
        stream = RedisJobStream(
            reader,
            connections.commands,
            consumer=worker_id,
            block=settings.block,
            min_idle=settings.lease + _IDLE_MARGIN,
        )
        pool = WorkerPool(
            AttemptDependencies(
                worker_id=worker_id,
                agents=agents,
                attempts=connections.attempts,
                ledger=connections.ledger,
                events=connections.events,
                entries=connections.entries,
                acknowledger=Acknowledger(stream, background),
                leases=LeaseKeeper(
                    _lease_stores(settings, worker_id),
                    worker_id=worker_id,
                    lease=settings.lease,
                    renew_every=settings.renew_every,
                ),
                background=background,
                upstream=UpstreamGate(
                    RedisUpstreamBudget(connections.once, peer=worker_id),
                    background,
                    UpstreamTerms(
                        limits=Rates(
                            requests=settings.upstream_requests_per_minute,
                            input=settings.upstream_input_tokens_per_minute,
                            output=settings.upstream_output_tokens_per_minute,
                        ),
                        max_wait=settings.upstream_max_wait,
                    ),
                ),
                event_retention=settings.event_retention,
                policy=RetryPolicy(max_errors=settings.max_errors),
            ),
            stream,
            connections.nudges,
            PostgresQueueControl(connections.database),
            WorkerTerms(
                concurrency=settings.concurrency,
                lease=settings.lease,
                max_crashes=settings.max_crashes,
                reclaim_every=settings.reclaim_interval,
                shutdown_grace=settings.shutdown_grace,
            ),
            vital=vital,
            on_claim=wake_relay,
        )
        await pool.start()
        looking = background.spawn("models", warn_of_models(settings))
        try:
            yield pool
        finally:
            await background.cancel([looking])
            await pool.stop()


def _lease_stores(
    settings: Settings, worker_id: str
) -> Callable[[], AbstractAsyncContextManager[tuple[LeaseStore, EntryLeases]]]:
    """Return how the lease thread opens connections that belong to its own event loop."""

    @asynccontextmanager
    async def open_stores() -> AsyncIterator[tuple[LeaseStore, EntryLeases]]:
        name = f"{worker_id}-leases"
        limit = max(1.0, settings.renew_every)
        database = Database(database_url(settings), name=name, size=2, command=limit)
        client = once_client(redis_url(settings), name=name, timeout=limit)
        try:
            yield PostgresLeaseStore(database), RedisEntryLeases(client, consumer=worker_id)
        finally:
            await client.aclose()
            await database.close()

    return open_stores
