"""The limits that users have instead of their tiers'."""

from service.domain.job import Owner
from service.domain.tiers import Overrides
from service.postgres.pool import Database


class PostgresUserLimits:
    """Looks up what was decided for one user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, owner: Owner) -> Overrides:
        """Return this user's own limits; empty for whoever has none."""
        row = await self._database.fetch_one("find_user_limits", owner.tenant_id, owner.user_id)
        return row["overrides"] if row else {}
