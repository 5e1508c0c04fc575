"""Migrations: once each, whoever starts at the same time, and never a changed one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlencode, urlsplit

import asyncpg
import pytest

from service.domain.errors import Unavailable
from service.postgres import schema
from service.postgres.pool import Database
from service.postgres.schema import (
    Migration,
    SchemaMismatch,
    load_migrations,
    migrate,
    pending_migrations,
)
from tests.fixtures.database import Observer

SHIPPED = [migration.title for migration in load_migrations()]

Ship = Callable[..., None]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty database."""
    opened = Database(database_url, name="migrations")
    yield opened
    await opened.close()


@pytest.fixture
async def observer(database_url: str) -> AsyncIterator[Observer]:
    """A second look at the empty database."""
    connection = await asyncpg.connect(database_url)
    yield Observer(connection)
    connection.terminate()


@pytest.fixture
def ship(monkeypatch: pytest.MonkeyPatch) -> Ship:
    """Replace the migrations that this version comes with."""

    def replace(*texts: str) -> None:
        migrations = [Migration(n, f"step_{n}", sql) for n, sql in enumerate(texts, start=1)]
        monkeypatch.setattr(schema, "load_migrations", lambda: migrations)

    return replace


def test_migrations_are_numbered_without_gaps_and_doubles() -> None:
    versions = [migration.version for migration in load_migrations()]

    assert versions == list(range(1, len(versions) + 1))


async def test_an_empty_database_gets_every_migration_once(database: Database) -> None:
    assert await pending_migrations(database) == SHIPPED
    assert await migrate(database) == SHIPPED
    assert await migrate(database) == []
    assert await pending_migrations(database) == []


async def test_looking_for_pending_migrations_writes_nothing(
    database: Database, observer: Observer
) -> None:
    await pending_migrations(database)

    assert await observer.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


async def test_a_role_that_may_only_read_can_check_the_schema(
    database: Database, observer: Observer, database_url: str
) -> None:
    await migrate(database)
    await observer.run("CREATE ROLE reader")
    await observer.run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    reader = Database(_with_settings(database_url, role="reader"), name="reader")
    try:
        async with reader.connection() as connection:
            assert await connection.fetchval("SELECT current_user") == "reader"

        assert await pending_migrations(reader) == []
    finally:
        await reader.close()
        await observer.run("DROP OWNED BY reader")
        await observer.run("DROP ROLE reader")


async def test_an_empty_database_that_may_not_be_written_can_be_checked(database_url: str) -> None:
    read_only = _with_settings(database_url, default_transaction_read_only="on")
    database = Database(read_only, name="reader")
    try:
        assert await pending_migrations(database) == SHIPPED
        with pytest.raises(Unavailable):
            await migrate(database)
    finally:
        await database.close()


def _with_settings(url: str, **settings: str) -> str:
    split = urlsplit(url)
    return split._replace(query="&".join(filter(None, [split.query, urlencode(settings)]))).geturl()


async def test_processes_that_start_at_once_migrate_once(
    database_url: str, observer: Observer
) -> None:
    databases = [Database(database_url, name=f"process-{number}") for number in range(4)]
    try:
        applied = await asyncio.gather(*(migrate(each) for each in databases))
    finally:
        for each in databases:
            await each.close()

    assert sorted(title for titles in applied for title in titles) == SHIPPED
    assert await observer.value("SELECT count(*) FROM schema_migrations") == len(SHIPPED)


async def test_a_process_waits_for_another_that_migrates_however_long_it_takes(
    database_url: str, observer: Observer
) -> None:
    impatient = Database(database_url, name="impatient", command=1.0)
    try:
        async with observer.transaction():
            await observer.run("SELECT pg_advisory_xact_lock($1)", schema._MIGRATION_LOCK)
            migrating = asyncio.ensure_future(migrate(impatient))
            await observer.somebody_waits_for_a_lock()
            await observer.run("SELECT pg_sleep(1.2)")

        assert await migrating == SHIPPED
    finally:
        await impatient.close()


async def test_a_changed_migration_is_refused(
    database: Database, observer: Observer, ship: Ship
) -> None:
    ship("CREATE TABLE one ()")
    await migrate(database)
    ship("CREATE TABLE one (changed integer)", "CREATE TABLE two ()")

    with pytest.raises(SchemaMismatch, match="0001_step_1"):
        await migrate(database)
    with pytest.raises(SchemaMismatch):
        await pending_migrations(database)
    assert await observer.value("SELECT to_regclass('two')") is None


async def test_a_migration_of_a_newer_version_is_tolerated(database: Database, ship: Ship) -> None:
    ship("CREATE TABLE one ()", "CREATE TABLE two ()")
    await migrate(database)

    ship("CREATE TABLE one ()")

    assert await pending_migrations(database) == []
    assert await migrate(database) == []


async def test_a_failing_migration_leaves_those_before_it_and_nothing_of_its_own(
    database: Database, observer: Observer, ship: Ship
) -> None:
    ship("CREATE TABLE one ()", "CREATE TABLE two (); SELECT 1 / 0")

    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database)

    assert await pending_migrations(database) == ["0002_step_2"]
    assert await observer.value("SELECT to_regclass('two')") is None
    ship("CREATE TABLE one ()", "CREATE TABLE two ()")
    assert await migrate(database) == ["0002_step_2"]


async def test_a_migration_does_not_queue_the_service_behind_a_busy_table(
    database: Database, observer: Observer, ship: Ship, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_LONGEST_LOCK_WAIT", 0.2)
    ship("CREATE TABLE busy ()")
    await migrate(database)
    ship("CREATE TABLE busy ()", "ALTER TABLE busy ADD COLUMN more integer")
    async with observer.transaction():
        await observer.run("SELECT FROM busy")

        with pytest.raises(Unavailable):
            await migrate(database)

    assert await migrate(database) == ["0002_step_2"]


async def test_the_migrators_session_is_left_as_it_was(database: Database) -> None:
    async with database.connection() as connection:
        before = await connection.fetchval("SHOW lock_timeout")

    await migrate(database)

    async with database.connection() as connection:
        assert await connection.fetchval("SHOW lock_timeout") == before
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert await connection.fetchval(held) == 0
