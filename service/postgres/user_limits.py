"""The limits that users have instead of their tiers'."""

from collections.abc import Collection

from asyncpg import Record

from service.domain.job import Owner
from service.domain.tiers import Overrides
from service.ports.access import UserLimits
from service.postgres.pool import Database


class PostgresUserLimits:
    """Looks up and changes what was decided for one user; no row means the tier's limits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, owner: Owner) -> Overrides:
        """Return this user's own limits; empty for whoever has none."""
        row = await self._database.fetch_one("find_user_limits", owner.tenant_id, owner.user_id)
        return row["overrides"] if row else {}

    async def list_all(self, tenant_id: str | None, user_id: str | None) -> list[UserLimits]:
        """List the users whose limits differ, of one tenant or name or of any."""
        rows = await self._database.fetch("list_user_limits", tenant_id, user_id)
        return [_limits_from(row) for row in rows]

    async def change(
        self, owner: Owner, overrides: Overrides, tiers: Collection[str]
    ) -> UserLimits:
        """Set some limits, and take others from the tier again; the rest stays as it is."""
        row = await self._database.fetch_one(
            "set_user_limits", owner.tenant_id, owner.user_id, dict(overrides), sorted(tiers)
        )
        if row is None:
            raise AssertionError("an upsert always answers one row")
        return _limits_from(row)

    async def clear(self, owner: Owner) -> bool:
        """Go back to the tier's limits; returns whether any differed."""
        cleared = await self._database.fetch("clear_user_limits", owner.tenant_id, owner.user_id)
        return bool(cleared)


def _limits_from(row: Record) -> UserLimits:
    owner = Owner(row["tenant_id"], row["user_id"])
    return UserLimits(owner, row["overrides"], row["updated_at"])
