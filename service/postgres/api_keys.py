"""API keys as stored: hashed, with owner, scopes, tier and expiry."""

from collections.abc import Sequence

from asyncpg import Record

from service.domain.job import Owner
from service.ports.access import ApiKey
from service.postgres.pool import Database


class PostgresApiKeyStore:
    """Looks keys up by their public prefix; secrets are never stored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, prefix: str) -> ApiKey | None:
        """Look a key up by its public prefix."""
        row = await self._database.fetch_one("find_api_key", prefix)
        return _key_from(row) if row else None

    async def touch(self, prefix: str) -> None:
        """Note that the key was used, at most once a minute."""
        await self._database.fetch("touch_api_key", prefix)

    async def insert(
        self,
        prefix: str,
        key_hash: bytes,
        owner: Owner,
        *,
        name: str,
        scopes: Sequence[str],
        tier: str,
        valid_for: float | None,
    ) -> ApiKey:
        """Store a new key; `valid_for` is in seconds, None for ever."""
        row = await self._database.fetch_one(
            "insert_api_key",
            prefix,
            key_hash,
            owner.tenant_id,
            owner.user_id,
            name,
            sorted(scopes),
            tier,
            valid_for,
        )
        if row is None:
            raise AssertionError("an insert always answers one row")
        return _key_from(row)

    async def list_all(self) -> list[ApiKey]:
        """List every key, newest first."""
        return [_key_from(row) for row in await self._database.fetch("list_api_keys")]

    async def revoke(self, prefix: str) -> bool:
        """Revoke a key; returns whether there is such a key."""
        return bool(await self._database.fetch("revoke_api_key", prefix))


def _key_from(row: Record) -> ApiKey:
    return ApiKey(
        prefix=row["prefix"],
        key_hash=row["key_hash"],
        owner=Owner(row["tenant_id"], row["user_id"]),
        name=row["name"],
        scopes=frozenset(row["scopes"]),
        tier=row["tier"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
        overrides=row.get("overrides") or {},
    )
