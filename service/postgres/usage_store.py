"""What owners have used, by day, from the sums that the ledger keeps."""

from typing import Any

from asyncpg import Record

from service.domain.usage import Usage
from service.ports.usage import DayUsage, TodaysUsage
from service.postgres.pool import Database


class PostgresUsageStore:
    """Reads sums of one tenant; a user of None means all of its users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def today(self, tenant_id: str, user_id: str | None) -> TodaysUsage:
        """Read today's use and reservations in one statement."""
        [row] = await self._database.fetch_within(
            tenant_id, user_id, "read_todays_usage", tenant_id, user_id
        )
        return TodaysUsage(
            **_day_from(row),
            reserved_tokens=row["reserved_tokens"],
            active_jobs=row["active_jobs"],
        )

    async def daily(self, tenant_id: str, user_id: str | None, days: int) -> list[DayUsage]:
        """Read the use of so many days, today's first, those without any included."""
        rows = await self._database.fetch_within(
            tenant_id, user_id, "read_daily_usage", tenant_id, user_id, days
        )
        return [DayUsage(**_day_from(row)) for row in rows]


def _day_from(row: Record) -> dict[str, Any]:
    return {
        "day": row["day"],
        "requests": row["requests"],
        "usage": Usage(row["input"], row["output"], row["cache_read"], row["cache_write"]),
        "cost_usd": row["cost_usd"],
        "unpriced_calls": row["unpriced_calls"],
    }
