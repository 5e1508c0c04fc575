"""A database whose clock is ours: it stands still unless it is told how much time has passed."""

from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import asyncpg

from service.postgres.pool import Database
from service.postgres.schema import migrate
from tests.fixtures.servers import create_database

# Every reading is a microsecond later than the one before, so that no two moments are the same.
_CLOCK: Final = """
CREATE SEQUENCE clock_ticks;
CREATE SEQUENCE server_start MINVALUE -100000000;
CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
  SELECT timestamptz '2030-01-01 23:58:00Z' + nextval('clock_ticks') * interval '1 microsecond'
$$;
CREATE FUNCTION pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
  SELECT timestamptz '2030-01-01 23:58:00Z' + last_value * interval '1 microsecond'
  FROM server_start
$$;
"""
# It names the schemas that it trusts, in an order of its own.
_NO_EXCEPTION: Final = "ALTER FUNCTION accept_jobs SET search_path = public, pg_catalog, pg_temp"
_BEGINNING: Final = datetime(2030, 1, 1, 23, 58, tzinfo=UTC)
_MICROSECONDS: Final = 1_000_000
_START_OF_SERVER: Final = -60


async def create_database_with_own_clock(admin_url: str) -> tuple[str, str]:
    """Create a migrated database and return its name and address.

    Its functions hide those of the server from every statement and every column default.
    """
    name = f"stateful_{uuid4().hex[:12]}"
    url = await create_database(admin_url, name)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_CLOCK)
        await connection.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
    finally:
        await connection.close()
    database = Database(url, name="migrations")
    try:
        await migrate(database)
        async with database.connection() as migrated:
            await migrated.execute(_NO_EXCEPTION)
    finally:
        await database.close()
    return name, url


async def let_pass(connection: "asyncpg.Connection[asyncpg.Record]", seconds: int) -> None:
    """Move the database's clock on."""
    await connection.execute(
        "SELECT setval('clock_ticks', nextval('clock_ticks') + $1)", seconds * _MICROSECONDS
    )


async def reset_clock(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Begin again, on a server that has been up for a minute."""
    await connection.execute("SELECT setval('clock_ticks', 1)")
    await connection.execute("SELECT setval('server_start', $1)", _START_OF_SERVER * _MICROSECONDS)


async def restart_server(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Make it look as if the server had just been started."""
    await connection.execute("SELECT setval('server_start', nextval('clock_ticks'))")


def whole_seconds(moment: str) -> int:
    """How long after the beginning a moment is, as Postgres writes it in JSON."""
    return int((datetime.fromisoformat(moment) - _BEGINNING).total_seconds() // 1)
