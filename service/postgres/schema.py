"""Forward-only migrations: numbered SQL under an advisory lock, with checksums."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from asyncpg import Record
from asyncpg.pool import PoolConnectionProxy

from service.domain.errors import ServiceError
from service.postgres.pool import Database

_MIGRATION_LOCK = 0x757361_0000
_LONGEST_MIGRATION = 600.0


class SchemaMismatch(ServiceError):
    """The database's schema is not the one this version needs."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text: an applied migration must never change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations() -> list[Migration]:
    """Read `migrations/NNNN_name.sql` in order."""
    found = []
    for path in (files("service.postgres") / "migrations").iterdir():
        version, _, name = path.name.removesuffix(".sql").partition("_")
        if path.name.endswith(".sql"):
            found.append(Migration(int(version), name, path.read_text()))
    return sorted(found, key=lambda migration: migration.version)


async def migrate(database: Database) -> list[str]:
    """Apply what is missing, one transaction each, and return the applied names.

    Safe to run from many processes at once. Raises `SchemaMismatch` on a changed file.
    """
    applied: list[str] = []
    async with database.connection() as connection:
        # Another process may be migrating for longer than any statement is allowed to wait.
        await connection.execute("SET lock_timeout = 0; SET statement_timeout = 0")
        await connection.fetchval(
            "SELECT pg_advisory_lock($1)", _MIGRATION_LOCK, timeout=_LONGEST_MIGRATION
        )
        try:
            for migration in await _pending(connection):
                async with connection.transaction():
                    await connection.execute(migration.sql, timeout=_LONGEST_MIGRATION)
                    await connection.execute(
                        "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)",
                        migration.version,
                        migration.name,
                        migration.checksum,
                    )
                applied.append(f"{migration.version:04}_{migration.name}")
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _MIGRATION_LOCK)
    return applied


async def pending_migrations(database: Database) -> list[str]:
    """Name the migrations that have not been applied; raises `SchemaMismatch`."""
    async with database.connection() as connection:
        return [f"{m.version:04}_{m.name}" for m in await _pending(connection)]


async def _pending(connection: PoolConnectionProxy[Record]) -> list[Migration]:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations ("
        " version integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    rows = await connection.fetch("SELECT version, sha256 FROM schema_migrations")
    applied = {row["version"]: row["sha256"] for row in rows}
    migrations = load_migrations()
    for migration in migrations:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise SchemaMismatch(
                f"migration {migration.version:04}_{migration.name} was changed after it ran here"
            )
    return [migration for migration in migrations if migration.version not in applied]
