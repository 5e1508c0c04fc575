"""The queue as a whole: whether jobs may start, and how many there are."""

from asyncpg import Record

from service.ports.queue_control import JobCounts, Pause
from service.postgres.pool import Database


class PostgresQueueControl:
    """One row decides for the workers of all pods."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def current_pause(self) -> Pause | None:
        """Return the pause under way."""
        row = await self._database.fetch_one("read_queue_pause")
        return None if row is None else _pause_from(row)

    async def pause(self, by: str, reason: str | None) -> Pause:
        """Let no worker start another job; pausing again changes nothing."""
        row = await self._database.fetch_one("pause_queue", by, reason)
        if row is None:
            raise AssertionError("a migration has made the row, and nothing deletes it")
        return _pause_from(row)

    async def resume(self) -> bool:
        """Let workers start jobs again; returns whether they were paused."""
        return await self._database.fetch_one("resume_queue") is not None

    async def count_jobs(self) -> JobCounts:
        """Count the jobs that wait, run, have failed, or ended within the last hour."""
        row = await self._database.fetch_one("count_jobs")
        if row is None:
            raise AssertionError("counts are always one row")
        return JobCounts(**dict(row))


def _pause_from(row: Record) -> Pause:
    return Pause(row["paused_at"], row["paused_by"], row["reason"])
