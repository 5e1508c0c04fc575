"""Embedded servers keep their data, their addresses and their home to themselves."""

import os
import tempfile
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from service.embedded import EmbeddedPostgres, EmbeddedServerError, EmbeddedServers, EmbeddedValkey


async def write_down(database_url: str, word: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
    await connection.execute("INSERT INTO words VALUES ($1)", word)
    await connection.close()


async def remember(database_url: str, redis_url: str, word: str) -> None:
    await write_down(database_url, word)
    async with Redis.from_url(redis_url) as client:
        await client.set("word", word)


async def recall(database_url: str, redis_url: str) -> tuple[object, object]:
    connection = await asyncpg.connect(database_url)
    stored = await connection.fetchval("SELECT word FROM words")
    await connection.close()
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        return stored, await client.get("word")


async def test_data_lasts_from_one_run_to_the_next(tmp_path: Path) -> None:
    home = tmp_path / ".usa"
    for run in range(2):
        servers = EmbeddedServers(home)
        urls = servers.start()
        if run == 0:
            await remember(urls.database_url, urls.redis_url, "kept")
        assert await recall(urls.database_url, urls.redis_url) == ("kept", "kept")
        servers.stop()


async def test_restart_and_kill_keep_data_and_addresses(
    tmp_path: Path, socket_folder: Path
) -> None:
    sockets = socket_folder / "restarted"
    sockets.mkdir(mode=0o700)
    valkey, postgres = EmbeddedValkey(tmp_path, sockets), EmbeddedPostgres(tmp_path, sockets)
    valkey.start()
    postgres.start()
    database_url, redis_url, pids = postgres.url, valkey.url, {valkey.pid, postgres.pid}
    await remember(database_url, redis_url, "kept")
    valkey.restart()
    postgres.kill()
    assert not postgres.is_running
    postgres.start()
    assert await recall(database_url, redis_url) == ("kept", "kept")
    assert pids.isdisjoint({valkey.pid, postgres.pid})
    postgres.stop()
    valkey.stop()


async def test_a_commit_outlasts_the_kill_of_a_server_that_is_not_durable(
    tmp_path: Path, socket_folder: Path
) -> None:
    sockets = socket_folder / "careless"
    sockets.mkdir(mode=0o700)
    postgres = EmbeddedPostgres(tmp_path, sockets, durable=False)
    postgres.start()
    await write_down(postgres.url, "kept")
    postgres.kill()
    postgres.start()
    connection = await asyncpg.connect(postgres.url)
    assert await connection.fetchval("SELECT word FROM words") == "kept"
    await connection.close()
    postgres.stop()


def test_sockets_are_private_and_gone_after_a_stop(tmp_path: Path) -> None:
    servers = EmbeddedServers(tmp_path, durable=False)
    sockets = Path(servers.start().redis_url.removeprefix("unix://")).parent
    assert sockets.stat().st_mode & 0o777 == 0o700
    servers.stop()
    assert not sockets.exists()


async def test_stop_does_not_wait_for_connected_clients(tmp_path: Path) -> None:
    servers = EmbeddedServers(tmp_path, durable=False)
    connection = await asyncpg.connect(servers.start().database_url)
    servers.stop()
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connection.fetchval("SELECT 1")
    connection.terminate()


def test_a_second_start_on_a_busy_home_is_refused_in_one_line(tmp_path: Path) -> None:
    with EmbeddedServers(tmp_path, durable=False):
        with pytest.raises(EmbeddedServerError) as refusal:
            EmbeddedServers(tmp_path, durable=False).start()
        expected = f"another `usa up` uses this folder (pid {os.getpid()}): {tmp_path}"
        assert str(refusal.value) == expected
    with EmbeddedServers(tmp_path, durable=False) as next_owner:
        assert next_owner.valkey is not None


def test_a_server_whose_address_is_given_is_not_started(tmp_path: Path) -> None:
    given = "postgresql://somewhere/else"
    with EmbeddedServers(tmp_path, durable=False, database_url=given) as servers:
        assert servers.postgres is None
        assert servers.valkey is not None
    assert not (tmp_path / "postgres").exists()


async def test_a_deep_home_and_a_deep_temporary_folder_do_not_lengthen_socket_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    servers = EmbeddedServers(deep / ".usa", durable=False)
    urls = servers.start()
    await remember(urls.database_url, urls.redis_url, "deep")
    assert await recall(urls.database_url, urls.redis_url) == ("deep", "deep")
    servers.stop()


async def test_the_environment_of_the_caller_changes_neither_server_nor_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "7777", "PGDATA": "/nowhere", "LC_ALL": "xx_YY"}.items():
        monkeypatch.setenv(name, value)
    servers = EmbeddedServers(tmp_path, durable=False)
    connection = await asyncpg.connect(servers.start().database_url)
    assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    assert await connection.fetchval("SELECT upper('é')") == "É"
    await connection.close()
    servers.stop()


async def test_every_test_gets_an_empty_redis(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        await client.set("left", "behind")


test_every_test_gets_an_empty_redis_again = test_every_test_gets_an_empty_redis


async def test_every_test_gets_an_empty_database(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TABLE left_behind ()")
    await connection.close()


test_every_test_gets_an_empty_database_again = test_every_test_gets_an_empty_database
