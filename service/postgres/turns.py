"""Advisory locks, so that of all processes one at a time does what one can do for all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from service.postgres.pool import Database

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

RECONCILER = 0x757361_0001
PRUNER = 0x757361_0002
SAMPLER = 0x757361_0003

# A process that was stopped in the middle of a round must not keep all others from theirs.
_LONGEST_ROUND = 30


@asynccontextmanager
async def turn(database: Database, lock: int) -> AsyncIterator[bool]:
    """Hold an advisory lock inside this block, if it is free; yields whether it is held.

    Raises `Unavailable` at the end of a round of more than 30 s, which loses the lock.
    """
    async with holder(database, lock) as connection:
        yield connection is not None


@asynccontextmanager
async def holder(
    database: Database, lock: int
) -> AsyncIterator["PoolConnectionProxy[Record] | None"]:
    """Hold an advisory lock inside this block, if it is free, and yield the connection that does.

    It loses the lock, and is closed, after 30 s of rest. A table that is read through it stays
    locked until the end.
    """
    async with database.connection() as connection, connection.transaction():
        await connection.execute(
            f"SET LOCAL idle_in_transaction_session_timeout = '{_LONGEST_ROUND}s'"
        )
        # Bound to the transaction: behind a pooler a session's lock could outlive its holder.
        is_held = await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", lock)
        yield connection if is_held else None
