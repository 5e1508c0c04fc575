"""The connection pool, its time limits, and what its errors mean to a caller."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import asyncpg
import orjson
from asyncpg.exceptions import TargetServerAttributeNotMatched

from service.domain.errors import Unavailable
from service.postgres.statements import statement
from service.postgres.storable import to_json
from service.telemetry.pools import PoolUse

if TYPE_CHECKING:
    from asyncpg import Connection, Record
    from asyncpg.pool import Pool, PoolConnectionProxy

Answer = TypeVar("Answer")
Act: TypeAlias = "Callable[[PoolConnectionProxy[Record]], Awaitable[Answer]]"

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    TargetServerAttributeNotMatched,
    # A connection that learns of its server's end while a command is being sent.
    asyncpg.InternalClientError,
)

CONFLICTS = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)

# Whatever is wrong with an item's own values; the driver refuses some itself, as ValueError.
BAD_ITEMS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    ValueError,
    TypeError,
)

_MOST_RUNS = 4


@contextmanager
def postgres_errors() -> Iterator[None]:
    """Translate what the driver raises when the server is away, stopping, full or read-only."""
    try:
        yield
    except _AWAY as error:
        if isinstance(error, ValueError):  # our own parameters cannot be sent, now or later
            raise
        raise Unavailable("Postgres") from error


class Database:
    """A pool whose every wait is bounded; raises `Unavailable` instead of hanging.

    `acquire` and `command` are the longest waits for a connection and for an answer, in
    seconds. Sessions keep no state from one borrower to the next, so that a pooler may stand
    between. With `row_security` its role sees only what `fetch_within` shows it.
    """

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        size: int = 10,
        acquire: float = 2.0,
        command: float = 8.0,
        row_security: bool = False,
    ) -> None:
        self._dsn = dsn
        self._name = name
        self._size = size
        self._acquire = acquire
        self._command = command
        self._row_security = row_security
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
                    reset=_keep_session,
                    server_settings=self._server_settings(),
                )
        return self._pool

    def _server_settings(self) -> dict[str, str]:
        return {
            "application_name": self._name,
            "timezone": "UTC",
            # Guards are written for rows that change while a statement waits for them.
            "default_transaction_isolation": "read committed",
            # Shorter than our own limit: a client that has to give up knows the path is dead.
            "statement_timeout": _milliseconds(0.9 * self._command),
            "lock_timeout": _milliseconds(min(3.0, 0.5 * self._command)),
            "idle_in_transaction_session_timeout": "10000",
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            # Compiling takes longer than any of these statements.
            "jit": "off",
        }

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["PoolConnectionProxy[Record]"]:
        """Borrow a connection, waiting a bounded time for it."""
        with postgres_errors():
            pool = self._pool or await self._open()
            connection = await pool.acquire(timeout=self._acquire)
            try:
                yield connection
            except TimeoutError:  # the server's own limit is shorter: the path to it is dead
                connection.terminate()
                await pool.expire_connections()  # idle ones went the same way
                raise
            finally:
                await _give_back(pool, connection)

    async def fetch(self, name: str, *parameters: Any) -> "list[Record]":
        """Run a named statement, a transaction of its own, and return its rows."""
        return await self._commit(lambda on: on.fetch(statement(name), *parameters))

    async def fetch_one(self, name: str, *parameters: Any) -> "Record | None":
        """Run a named statement, a transaction of its own, and return its first row."""
        return await self._commit(lambda on: on.fetchrow(statement(name), *parameters))

    async def fetch_within(
        self, tenant_id: str, user_id: str | None, name: str, *parameters: Any
    ) -> "list[Record]":
        """Run a named statement that sees one user's rows, or those of a whole tenant.

        It names them itself as well: Postgres is the second wall.
        """
        if not self._row_security:
            return await self.fetch(name, *parameters)

        async def act(on: "PoolConnectionProxy[Record]") -> "list[Record]":
            async with on.transaction():
                await on.execute(statement("show_owner"), tenant_id, user_id)
                return await on.fetch(statement(name), *parameters)

        return await self._commit(act)

    async def fetch_batch(
        self, name: str, items: Sequence[Sequence[Any]], *constants: Any
    ) -> "list[Record]":
        """Run a named statement on arrays, one per column of `items`, of which there are some.

        After them come what all items have in common.
        """
        columns = [list(column) for column in zip(*items, strict=True)]
        return await self.fetch(name, *columns, *constants)

    async def _commit(self, act: "Act[Answer]") -> Answer:
        """Act, and again if a serialization failure or deadlock rolled it back."""
        for run in count(1):
            try:
                async with self.connection() as connection:
                    return await act(connection)
            except CONFLICTS as error:
                if run == _MOST_RUNS:
                    raise Unavailable("Postgres") from error
        raise AssertionError("counting never ends")

    def use(self) -> PoolUse:
        """Count the connections; nothing is asked of the server."""
        if self._pool is None:
            return PoolUse(used=0, idle=0, most=self._size)
        idle = self._pool.get_idle_size()
        return PoolUse(used=self._pool.get_size() - idle, idle=idle, most=self._size)

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
        except _AWAY:
            self._pool.terminate()


async def _give_back(pool: "Pool[Record]", connection: "PoolConnectionProxy[Record]") -> None:
    """Release a connection; what happened on it is decided, and this must not hide it."""
    try:
        await pool.release(connection)
    except TimeoutError:
        await pool.expire_connections()
    except _AWAY:
        return  # closed instead of kept


async def _prepare_connection(connection: "Connection[Record]") -> None:
    await connection.set_type_codec(
        "jsonb", encoder=to_json, decoder=orjson.loads, schema="pg_catalog"
    )


async def _keep_session(_: "Connection[Record]") -> None:
    """Spare the round trip that undoes session state, because nothing here leaves any."""


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(1000 * seconds)))
