"""Forward-only migrations: numbered SQL under an advisory lock, with checksums."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from service.domain.errors import ServiceError
from service.postgres.pool import Database

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

_MIGRATION_LOCK = 0x757361_0000
_LONGEST_MIGRATION = 600.0
_LONGEST_LOCK_WAIT = 5
_CREATE_LIST = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  version integer PRIMARY KEY,
  name text NOT NULL,
  sha256 text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


class SchemaMismatch(ServiceError):
    """The database's schema is not the one this version needs."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def title(self) -> str:
        """The file's name, without its ending."""
        return f"{self.version:04}_{self.name}"

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
            found.append(Migration(int(version), name, path.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.version)


async def migrate(database: Database) -> list[str]:
    """Apply what is missing, one transaction each, and return the applied names.

    Safe to run from many processes at once. Raises `SchemaMismatch` on a changed file and
    `Unavailable` when a table is in use for so long that waiting would stop the service.
    """
    applied: list[str] = []
    async with database.connection() as connection:
        while (migration := await _apply_next(connection)) is not None:
            applied.append(migration.title)
        await _grant(connection)
    return applied


async def check_api_role(database: Database) -> None:
    """Return if a role can answer requests and sees one owner at a time.

    Raises `SchemaMismatch`.
    """
    row = await database.fetch_one("check_api_role")
    if row is None or not row["is_able"]:
        raise SchemaMismatch(
            "the role of USA_API_DATABASE_URL lacks grants: make it as deploy/postgres/roles.sql "
            "does, and run `usa migrate`"
        )
    if not row["is_confined"]:
        raise SchemaMismatch(
            "the role of USA_API_DATABASE_URL sees every tenant: use usa_api, which "
            "deploy/postgres/roles.sql makes"
        )
    if not row["is_kept_out"]:
        raise SchemaMismatch(
            "the role of USA_API_DATABASE_URL may create objects in the schema of the service, as "
            "everybody may before Postgres 15: let the schema's owner "
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        )


async def check_worker_role(database: Database) -> None:
    """Return if a role can run jobs and keep the queue in order; there are no migrations missing.

    Raises `SchemaMismatch`.
    """
    row = await database.fetch_one("check_worker_role")
    if row is None or not row["is_able"]:
        raise SchemaMismatch(
            "the role of DATABASE_URL lacks grants: use usa_worker, which "
            "deploy/postgres/roles.sql makes, or the owner of the schema"
        )


async def pending_migrations(database: Database) -> list[str]:
    """Name the migrations that have not been applied, writing nothing.

    Raises `SchemaMismatch` on a changed file.
    """
    async with database.connection() as connection:
        return [migration.title for migration in await _pending(connection)]


async def _apply_next(connection: "PoolConnectionProxy[Record]") -> Migration | None:
    async with connection.transaction():
        # Another process may be migrating for longer than any statement is allowed to wait.
        await connection.execute("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0")
        await connection.fetchval(
            "SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK, timeout=_LONGEST_MIGRATION
        )
        pending = await _pending(connection)
        if not pending:
            return None
        # Everything queues behind a lock that waits for a busy table.
        await connection.execute(f"SET LOCAL lock_timeout = '{_LONGEST_LOCK_WAIT}s'")
        await connection.execute(_CREATE_LIST)
        await connection.execute(pending[0].sql, timeout=_LONGEST_MIGRATION)
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)",
            pending[0].version,
            pending[0].name,
            pending[0].checksum,
        )
        return pending[0]


async def _grant(connection: "PoolConnectionProxy[Record]") -> None:
    """Give the roles what the schema now holds; one transaction, and no wait for a busy table."""
    grants = (files("service.postgres") / "grants.sql").read_text(encoding="utf-8")
    async with connection.transaction():
        await connection.fetchval(
            "SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK, timeout=_LONGEST_MIGRATION
        )
        await connection.execute(f"SET LOCAL lock_timeout = '{_LONGEST_LOCK_WAIT}s'")
        await connection.execute(grants)


async def _pending(connection: "PoolConnectionProxy[Record]") -> list[Migration]:
    applied = await _applied(connection)
    migrations = load_migrations()
    for migration in migrations:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise SchemaMismatch(f"migration {migration.title} was changed after it ran here")
    return [migration for migration in migrations if migration.version not in applied]


async def _applied(connection: "PoolConnectionProxy[Record]") -> dict[int, str]:
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return {}
    rows = await connection.fetch("SELECT version, sha256 FROM schema_migrations")
    return {row["version"]: row["sha256"] for row in rows}
