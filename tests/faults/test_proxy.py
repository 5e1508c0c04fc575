"""The proxy hurts as it says: a test of what other tests rely on."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic

import pytest

from tests.fixtures.proxy import Proxy, Streams, Way
from tests.fixtures.waiting import eventually


@dataclass
class Echo:
    """A server that repeats what it hears, behind a proxy."""

    proxy: Proxy
    heard: bytearray

    async def connect(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self.proxy.port)


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    """An echo behind a proxy that passes everything on."""
    heard = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            heard.extend(chunk)
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    proxy = Proxy(lambda: asyncio.open_connection(host, port))
    await proxy.open()
    yield Echo(proxy, heard)
    await proxy.close()
    server.close()


async def test_frozen_answers_leave_requests_through(echo: Echo) -> None:
    reader, writer = await echo.connect()
    echo.proxy.freeze(only=Way.ANSWERS)

    writer.write(b"hello")

    await eventually(lambda: echo.heard == b"hello")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(5), 0.1)
    echo.proxy.thaw()
    assert await reader.readexactly(5) == b"hello"
    writer.close()


async def test_frozen_requests_leave_answers_through(echo: Echo) -> None:
    reader, writer = await echo.connect()
    echo.proxy.delay(0.2)
    writer.write(b"first")
    await eventually(lambda: echo.heard == b"first")

    echo.proxy.freeze(only=Way.REQUESTS)
    writer.write(b"second")

    assert await reader.readexactly(5) == b"first"
    assert echo.heard == b"first"
    writer.close()


async def test_an_answer_breaks_after_so_many_bytes(echo: Echo) -> None:
    echo.proxy.break_answer(to=b"break", after=2)
    (reader, writer), (other_reader, other) = await echo.connect(), await echo.connect()

    other.write(b"whole")
    assert await other_reader.readexactly(5) == b"whole"
    writer.write(b"break")

    assert await reader.readexactly(2) == b"br"
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    assert echo.heard == b"wholebreak"
    assert echo.proxy.resets == 1
    other.write(b"break")
    assert await other_reader.readexactly(5) == b"break"
    for each in (writer, other):
        each.close()


async def test_latency_keeps_the_order_and_holds_nobody_up(echo: Echo) -> None:
    reader, writer = await echo.connect()
    echo.proxy.delay(0.2, jitter=0.05)
    started = monotonic()

    for number in range(10):
        writer.write(b"%d" % number)
        await asyncio.sleep(0)

    assert await reader.readexactly(10) == b"0123456789"
    assert 0.4 <= monotonic() - started < 2.0
    writer.close()


async def test_a_limited_rate_is_what_passes(echo: Echo) -> None:
    echo.proxy.limit(10_000)
    reader, writer = await echo.connect()
    started = monotonic()

    writer.write(bytes(5_000))
    await reader.readexactly(5_000)

    assert 0.4 < monotonic() - started < 3.0
    writer.close()
