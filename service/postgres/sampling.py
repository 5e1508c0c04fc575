"""The queue as its rows tell it, counted by one process at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from service.ports.sampling import QueueSample, TakeSample
from service.postgres.pool import Database, postgres_errors
from service.postgres.turns import SAMPLER, holder

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy


class PostgresSampleStore:
    """Counts only for who has just shown that it still holds the lock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def only_sampler(self) -> AsyncIterator[TakeSample | None]:
        """Hold the lock that lets one process sample, if it is free."""
        async with holder(self._database, SAMPLER) as connection:
            yield None if connection is None else partial(self._take, connection)

    async def _take(self, holding: "PoolConnectionProxy[Record]") -> QueueSample:
        with postgres_errors():
            await holding.fetchval("SELECT 1")
        # Elsewhere: within the holder's transaction the tables would be locked until its end, and
        # a migration would wait for that, and everybody for the migration.
        row = await self._database.fetch_one("sample_queue")
        if row is None:
            raise AssertionError("counts are always one row")
        return QueueSample(**dict(row))
