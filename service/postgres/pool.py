"""The connection pool, its time limits, and what its errors mean to a caller."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson

from service.domain.errors import Unavailable
from service.postgres.statements import statement

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import Pool, PoolConnectionProxy

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)

CONFLICTS = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
BAD_ITEMS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


@contextmanager
def postgres_errors() -> Iterator[None]:
    """Translate what the driver raises when the server is away, stopping, full or read-only."""
    try:
        yield
    except _AWAY as error:
        raise Unavailable("Postgres") from error


class Database:
    """A pool whose every wait is bounded; raises `Unavailable` instead of hanging."""

    def __init__(
        self, dsn: str, *, name: str, size: int = 10, acquire: float = 2.0, command: float = 8.0
    ) -> None:
        self._dsn = dsn
        self._name = name
        self._size = size
        self._acquire = acquire
        self._command = command
        self._pool: Pool[Record] | None = None
        self._opening = asyncio.Lock()

    async def _open(self) -> "Pool[Record]":
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,
                    max_size=self._size,
                    timeout=self._acquire,
                    command_timeout=self._command,
                    max_inactive_connection_lifetime=60.0,
                    init=_prepare_connection,
                    server_settings={
                        "application_name": self._name,
                        "timezone": "UTC",
                        "statement_timeout": str(int(self._command * 1000) - 500),
                        "lock_timeout": "3000",
                        "idle_in_transaction_session_timeout": "10000",
                        "tcp_keepalives_idle": "10",
                        "tcp_keepalives_interval": "5",
                        "tcp_keepalives_count": "3",
                    },
                )
        return self._pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["PoolConnectionProxy[Record]"]:
        """Borrow a connection, waiting a bounded time for it."""
        with postgres_errors():
            pool = self._pool or await self._open()
            async with pool.acquire(timeout=self._acquire) as connection:
                yield connection

    async def fetch(self, name: str, *parameters: Any) -> "list[Record]":
        """Run a named statement and return its rows."""
        async with self.connection() as connection:
            return await connection.fetch(statement(name), *parameters)

    async def fetch_one(self, name: str, *parameters: Any) -> "Record | None":
        """Run a named statement and return its first row."""
        async with self.connection() as connection:
            return await connection.fetchrow(statement(name), *parameters)

    async def fetch_batch(self, name: str, items: Sequence[Sequence[Any]]) -> "list[Record]":
        """Run a named statement on arrays, one per column of `items`.

        A serialization failure or deadlock reruns the batch, up to three times.
        """
        columns = [list(column) for column in zip(*items, strict=True)]
        for _ in range(3):
            try:
                return await self.fetch(name, *columns)
            except CONFLICTS:
                continue
        try:
            return await self.fetch(name, *columns)
        except CONFLICTS as error:
            raise Unavailable("Postgres") from error

    async def ping(self) -> None:
        """Return if the server answers; raises `Unavailable`."""
        async with self.connection() as connection:
            await connection.fetchval("SELECT 1")

    async def close(self) -> None:
        """Close all connections, without waiting for a server that is gone."""
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(3.0):
                await self._pool.close()
        except (TimeoutError, *_AWAY):
            self._pool.terminate()


async def _prepare_connection(connection: "Connection[Record]") -> None:
    await connection.set_type_codec(
        "jsonb", encoder=_to_json, decoder=orjson.loads, schema="pg_catalog"
    )


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()
