"""The servers a process talks to, and the stores over them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from service.domain.errors import ServiceError
from service.ports.events import EventFeed
from service.postgres.attempt_store import PostgresAttemptStore
from service.postgres.pool import Database
from service.postgres.retention_store import PostgresRetentionStore
from service.postgres.upkeep_store import PostgresUpkeepStore
from service.postgres.usage_ledger import PostgresUsageLedger
from service.settings import Settings
from service.streams.cluster_feed import ClusterEventFeed
from service.streams.connection import (
    Client,
    as_cluster,
    command_client,
    once_client,
    redis_errors,
)
from service.streams.event_feed import RedisEventFeed
from service.streams.event_log import RedisEventLog
from service.streams.job_stream import RedisEntryWriter
from service.streams.nudges import RedisNudges
from service.supervision import Background


class MissingAddress(ServiceError):
    """A server's address is not set."""


def database_url(settings: Settings) -> str:
    """Return where Postgres is; raises `MissingAddress`."""
    return _address(settings.database_url, "USA_DATABASE_URL")


def redis_url(settings: Settings) -> str:
    """Return where Redis is; raises `MissingAddress`."""
    return _address(settings.redis_url, "USA_REDIS_URL")


def _address(url: SecretStr | None, name: str) -> str:
    if url is None:
        raise MissingAddress(f"set {name}, or let `usa up` start servers of its own")
    return url.get_secret_value()


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """What API, workers and maintenance share in one process.

    `commands` repeats commands that may run twice; `once` never repeats any.
    """

    database: Database
    commands: Client
    once: Client
    attempts: PostgresAttemptStore
    ledger: PostgresUsageLedger
    upkeep: PostgresUpkeepStore
    retention: PostgresRetentionStore
    events: RedisEventLog
    entries: RedisEntryWriter
    nudges: RedisNudges

    async def probe_postgres(self) -> None:
        """Return if Postgres answers; raises `Unavailable`."""
        await self.database.ping()

    async def probe_redis(self) -> None:
        """Return if Redis answers; raises `Unavailable`."""
        with redis_errors():
            await self.once.ping()


def event_feed(once: Client, background: Background) -> EventFeed:
    """Build what hears published frames: in a cluster, each shard's from that shard."""
    cluster = as_cluster(once)
    return RedisEventFeed(once) if cluster is None else ClusterEventFeed(cluster, background)


@asynccontextmanager
async def open_connections(
    settings: Settings, name: str, background: Background
) -> AsyncIterator[Connections]:
    """Make the pools; nothing connects before it is needed."""
    url = redis_url(settings)
    async with AsyncExitStack() as stack:
        database = Database(database_url(settings), name=name, size=settings.postgres_pool)
        stack.push_async_callback(database.close)
        commands = command_client(url, name=name, timeout=settings.socket_timeout)
        stack.push_async_callback(commands.aclose)
        once = once_client(url, name=f"{name}-once", timeout=settings.socket_timeout)
        stack.push_async_callback(once.aclose)
        yield Connections(
            database=database,
            commands=commands,
            once=once,
            attempts=PostgresAttemptStore(database, background),
            ledger=PostgresUsageLedger(database, background),
            upkeep=PostgresUpkeepStore(database),
            retention=PostgresRetentionStore(database),
            events=RedisEventLog(commands, background),
            entries=RedisEntryWriter(once),
            nudges=RedisNudges(commands, once),
        )
