"""A failing connection never undoes a cancellation."""

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from service.domain.errors import Unavailable
from service.streams.connection import redis_errors


async def listen_for_ever() -> None:
    """What loops over subscriptions do, on a connection that cannot be closed in peace."""
    while True:
        try:
            with redis_errors():
                try:
                    await asyncio.Event().wait()
                finally:
                    raise RedisConnectionError("closed already")
        except Unavailable:
            continue


async def test_a_cancelled_loop_ends_although_closing_its_connection_fails() -> None:
    loop = asyncio.create_task(listen_for_ever())
    await asyncio.sleep(0)
    loop.cancel()
    await asyncio.wait([loop], timeout=2)
    assert loop.cancelled()


async def test_without_a_cancellation_a_failure_is_an_outage() -> None:
    with pytest.raises(Unavailable, match="Redis"), redis_errors():
        raise RedisConnectionError("away")
