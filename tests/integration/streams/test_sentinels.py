"""Sentinels tell where the primary is, as long as one of them answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from service.domain.errors import Unavailable
from service.streams import keys
from service.streams.connection import Client, once_client, redis_errors
from tests.fixtures.redis_servers import (
    HOST,
    SENTINEL_PASSWORD,
    RedisProcess,
    RedisServers,
    free_ports,
    sentinels_agree,
    watched_by_sentinels,
)
from tests.fixtures.waiting import eventually


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[RedisServers]:
    with watched_by_sentinels(tmp_path) as servers:
        async with client_of(servers.url) as client:
            await eventually(lambda: answers(client), within=20.0)
        yield servers


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    client = once_client(url, name="test")
    yield client
    await client.aclose()


async def answers(client: Client) -> bool:
    try:
        with redis_errors():
            return bool(await client.ping())
    except Unavailable:
        return False


async def told(url: str) -> str:
    """Why there is no connection."""
    async with client_of(url) as client:
        with pytest.raises(Unavailable) as away, redis_errors():
            await client.ping()
    return str(away.value.__cause__)


async def test_one_sentinel_that_answers_is_enough(servers: RedisServers) -> None:
    [nobody] = free_ports(1)
    async with client_of(servers.url.replace("@", f"@{HOST}:{nobody},")) as client:
        assert await answers(client)


async def test_what_is_wrong_with_the_sentinels_is_told_without_their_password(
    servers: RedisServers,
) -> None:
    assert "does not know other" in await told(servers.url.replace("/usa/", "/other/"))
    refused = await told(servers.url.replace(SENTINEL_PASSWORD, "wrong-one"))
    assert "no Sentinel tells the primary" in refused
    assert "wrong-one" not in refused


@asynccontextmanager
async def one_that_is_cut_off(folder: Path, port: int) -> AsyncIterator[int]:
    """A Sentinel that knows no other, and keeps telling an address of a primary."""
    [own] = free_ports(1)
    told = {"redis-1 6379": f"{HOST} {port}"}
    sentinel = RedisProcess("redis-sentinel", folder, "sentinel.conf", own, told)
    sentinel.start()
    try:
        await eventually(lambda: tells(own, port), within=20.0)
        yield own
    finally:
        sentinel.kill()


def tells(sentinel: int, primary: int) -> bool:
    try:
        with redis.Redis(host=HOST, port=sentinel, password=SENTINEL_PASSWORD) as client:
            return bool(client.sentinel_get_master_addr_by_name("usa")[1] == primary)
    except redis.RedisError:
        return False


async def test_a_sentinel_that_tells_of_a_dead_primary_is_not_asked_for_ever(
    servers: RedisServers, tmp_path: Path
) -> None:
    [nobody] = free_ports(1)
    async with (
        one_that_is_cut_off(tmp_path / "alone", nobody) as port,
        client_of(servers.url.replace("@", f"@{HOST}:{port},")) as client,
    ):
        await eventually(lambda: answers(client), within=10.0)


async def test_a_sentinel_that_tells_of_a_replica_is_not_asked_for_ever(
    servers: RedisServers, tmp_path: Path
) -> None:
    await sentinels_agree(servers)
    replica = next(each for each in servers.servers if each.role() == "slave")
    async with (
        one_that_is_cut_off(tmp_path / "alone", replica.port) as port,
        client_of(servers.url.replace("@", f"@{HOST}:{port},")) as client,
    ):
        await eventually(lambda: takes_writes(client), within=10.0)


async def test_a_primary_that_nobody_follows_is_left_for_the_one_that_took_its_place(
    servers: RedisServers,
) -> None:
    await sentinels_agree(servers)
    async with client_of(servers.url) as client:
        await eventually(lambda: takes_writes(client), within=10.0)
        primary = servers.primary_of(keys.JOBS)
        with primary.client() as operator:
            operator.config_set("min-replicas-to-write", 9)
            before = connections_of(operator, "test")
            assert not await takes_writes(client)
            operator.config_set("min-replicas-to-write", 1)
            await eventually(lambda: takes_writes(client), within=10.0)
            assert connections_of(operator, "test").isdisjoint(before)


def connections_of(operator: "redis.Redis", name: str) -> set[str]:
    return {each["id"] for each in operator.client_list() if each["name"] == name}


async def takes_writes(client: Client) -> bool:
    try:
        with redis_errors():
            return bool(await client.xadd(keys.JOBS, {"job": "none"}))
    except Unavailable:
        return False
