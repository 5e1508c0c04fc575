"""Sentinels tell where the primary is, as long as one of them answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.domain.errors import Unavailable
from service.streams.connection import Client, once_client, redis_errors
from tests.fixtures.redis_servers import (
    HOST,
    SENTINEL_PASSWORD,
    RedisServers,
    free_ports,
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
