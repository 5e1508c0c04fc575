"""Clients: what they bear, and what an address may not change about them."""

import asyncio

import pytest

from service.domain.errors import Unavailable
from service.streams.connection import command_client, once_client, redis_errors
from tests.fixtures.streams import JobStreams

BOTH = pytest.mark.parametrize("make", [once_client, command_client])


@BOTH
async def test_many_callers_wait_for_a_connection_instead_of_failing(
    job_streams: JobStreams, make: object
) -> None:
    client = job_streams.client(make, "crowd")
    assert await asyncio.gather(*(client.ping() for _ in range(500))) == [True] * 500


async def test_whoever_waits_too_long_for_a_connection_is_told(job_streams: JobStreams) -> None:
    client = job_streams.client(once_client, "crowd", timeout=0.2)
    pool = client.connection_pool
    taken = [
        await pool.get_connection()  # type: ignore[no-untyped-call]
        for _ in range(pool.max_connections)
    ]
    with pytest.raises(Unavailable), redis_errors():
        await client.ping()

    await pool.release(taken.pop())
    assert await client.ping()
    for connection in taken:
        await pool.release(connection)


@BOTH
async def test_an_address_cannot_change_what_the_protocol_rests_on(
    job_streams: JobStreams, make: object
) -> None:
    wrong = (
        "protocol=2&decode_responses=true&socket_timeout=0.001&retry_on_timeout=true"
        "&max_connections=1&health_check_interval=0&timeout=0&client_name=other"
    )
    client = job_streams.client(make, "ours", url=f"{job_streams.url}?{wrong}")
    assert await client.client_getname() == "ours"
    assert await client.xgroup_create("stream", "group", id="0", mkstream=True)
    assert await client.xreadgroup("group", "one", {"stream": ">"}, block=100) == {}
    await client.set("key", "value")
    assert await client.get("key") == b"value"


async def test_a_database_in_the_address_is_used(job_streams: JobStreams) -> None:
    client = job_streams.client(command_client, "five", url=f"{job_streams.url}?db=5")
    assert (await client.client_info())["db"] == 5


@pytest.mark.parametrize("address", ["redis://127.0.0.1:1", "unix:///nowhere/redis.sock"])
@BOTH
async def test_a_server_that_is_not_there_is_unavailable(
    job_streams: JobStreams, make: object, address: str
) -> None:
    client = job_streams.client(make, "lost", url=address, timeout=0.5)
    with pytest.raises(Unavailable) as away, redis_errors():
        await client.ping()
    assert away.value.__cause__ is not None
