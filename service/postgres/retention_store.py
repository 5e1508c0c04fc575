"""What nobody needs any more, deleted in bounded batches."""

from contextlib import AbstractAsyncContextManager

from service.postgres.pool import Database
from service.postgres.turns import PRUNER, turn


class PostgresRetentionStore:
    """The ledger outlives the jobs it is about, and no job is deleted before it has ended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def only_pruner(self) -> AbstractAsyncContextManager[bool]:
        """Hold the lock that lets one pruner work at a time, if it is free."""
        return turn(self._database, PRUNER)

    async def delete_ended_jobs(self, days: int, limit: int) -> int:
        """Delete jobs that ended more than so many days ago; returns how many."""
        return len(await self._database.fetch("delete_ended_jobs", days, limit))

    async def delete_expired_keys(self, limit: int) -> int:
        """Delete idempotency keys that no longer bind; returns how many."""
        return len(await self._database.fetch("delete_expired_keys", limit))

    async def delete_old_calls(self, days: int, limit: int) -> int:
        """Delete closed ledger rows of more than so many days ago whose jobs are gone."""
        return len(await self._database.fetch("delete_old_calls", days, limit))

    async def delete_old_days(self, days: int, limit: int) -> int:
        """Delete the sums of days more than so many days ago whose ledger rows are gone."""
        return len(await self._database.fetch("delete_old_days", days, limit))
