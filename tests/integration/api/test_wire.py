"""Whatever arrives on the port, the log holds no traceback and the next request is served."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import orjson
import pytest

from service.api import bodies, protocol
from tests.fixtures.api import JOBS, RunningApi
from tests.fixtures.database import Observer
from tests.fixtures.waiting import eventually
from tests.integration.api.exchanges import Log, assert_protected, exchange, logged


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with logged(monkeypatch, caplog) as hearing:
        yield hearing


@asynccontextmanager
async def connection(
    api: RunningApi,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection to the API's port."""
    assert api.client.port is not None
    reader, writer = await asyncio.open_connection(api.client.host, api.client.port)
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def send(api: RunningApi, sent: bytes) -> bytes:
    """Send bytes and return the answer."""
    async with connection(api) as (reader, writer):
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return head + await reader.readexactly(int(length))


def post(api: RunningApi, headers: bytes, body: bytes = b"") -> bytes:
    """A submission, written out."""
    return (
        b"POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\n%s\r\n%s"
        % (JOBS.encode(), api.keys.alice.encode(), headers, body)
    )


MALFORMED = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a method of its own": b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
    "a header that may hold a key": b"GET / HTTP/1.1\r\nX API Key: usa_canary\r\n\r\n",
    "a long line": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 3000 + b"\r\n",
    "a path that is no text": b"GET /api/v1/jobs/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "an address that is none": b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "a length that is none": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "length and chunks": (
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "an expectation that is no text": b"GET / HTTP/1.1\r\nHost: x\r\nExpect: \xff\r\n\r\n",
    "chunks that are none": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
}


TOO_LARGE = {"a long line", "a long header"}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_no_http_is_refused_with_a_problem_and_one_line_without_its_words(
    api: RunningApi, log: Log, name: str
) -> None:
    head, _, body = (await send(api, MALFORMED[name])).partition(b"\r\n\r\n")
    status = 431 if name in TOO_LARGE else 400
    assert head.split(b" ")[1] == b"%d" % status
    sent = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert sent["Content-Type"] == "application/problem+json"
    assert_protected(sent)
    assert orjson.loads(body)["status"] == status
    assert [line["event"] for line in log.lines] == ["malformed_http"]
    assert b"canary" not in body
    assert "canary" not in repr(log.lines)
    log.has_no_traceback()
    assert log.library.records == []
    assert (await exchange(api, log, "GET", "/healthz")).status == 200


async def test_a_request_without_an_address_ends_its_connection(api: RunningApi, log: Log) -> None:
    async with connection(api) as (reader, writer):
        writer.write(b"CONNECT \r\nHost: x\r\n\r\n")
        assert await reader.read() == b""
    assert [line["event"] for line in log.lines] == ["malformed_http"]
    log.has_no_traceback()
    assert log.library.records == []


@pytest.mark.parametrize("path", ["/version", "/nowhere"])
async def test_what_the_library_refuses_by_itself_is_a_problem_too(
    api: RunningApi, log: Log, path: str
) -> None:
    answer = await send(api, b"GET %s HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n" % path.encode())
    assert answer.startswith(b"HTTP/1.1 417 ")
    assert b"application/problem+json" in answer
    assert b'"code":"EXPECTATION_FAILED"' in answer
    assert [line["event"] for line in log.lines] == ["malformed_http"]


async def test_a_hundred_headers_and_long_ones_are_no_trouble(api: RunningApi) -> None:
    headers = b"".join(b"X-%d: y\r\n" % number for number in range(98))
    long = b"X-Long: " + b"a" * 8_000 + b"\r\n"
    answer = await send(api, b"GET /version HTTP/1.1\r\nHost: x\r\n" + headers + long + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


VERSION = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
BEGINNINGS = {
    "nothing": (b"",),
    "an unfinished line": (b"GET /version HT",),
    "an unfinished head": (b"GET /version HTTP/1.1\r\nHost: x\r\n",),
    "a second request that is unfinished": (VERSION, b"GET /version HTTP/1.1\r\nHo"),
}


@pytest.mark.parametrize("name", BEGINNINGS)
async def test_a_head_that_does_not_come_to_its_end_is_not_waited_for(
    api: RunningApi, log: Log, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(protocol, "_SECONDS_FOR_HEAD", 0.2)
    *whole, rest = BEGINNINGS[name]
    async with connection(api) as (reader, writer):
        for request in whole:
            writer.write(request)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        writer.write(rest)
        assert await reader.read() == b""
    assert [line["event"] for line in log.lines] == ["http_request"] * len(whole) + ["slow_http"]


async def test_a_head_that_comes_byte_by_byte_is_not_waited_for_either(
    api: RunningApi, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_SECONDS_FOR_HEAD", 0.3)
    async with connection(api) as (reader, writer):

        async def is_closed() -> bool:
            writer.write(b"X")
            return reader.at_eof() or writer.is_closing()

        writer.write(b"GET /version HTTP/1.1\r\n")
        await eventually(is_closed, what="the connection is closed")
    assert [line["event"] for line in log.lines] == ["slow_http"]


async def test_a_connection_may_rest_between_requests_and_take_its_time_to_be_answered(
    api: RunningApi, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_SECONDS_FOR_HEAD", 0.2)
    job = await api.submit()
    head = f"GET {JOBS}/{job}?wait=60 HTTP/1.1\r\nHost: x\r\nX-API-Key: {api.keys.alice}\r\n\r\n"
    async with connection(api) as (reader, writer), connection(api) as (idle, _):
        writer.write(VERSION)
        await reader.readuntil(b"}")
        # Whoever came at the same time and has sent nothing is gone by now.
        assert await idle.read() == b""
        writer.write(head.encode())
        await eventually(lambda: api.waited_for, what="it waits")
        async with connection(api) as (another, _):
            assert await another.read() == b""
        await api.complete(job, {})
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_connection_that_asks_for_nothing_more_is_not_kept_for_ever(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_SECONDS_IDLE", 0.2)
    async with connection(api) as (reader, writer):
        # The beginning of a second request that came with the first does not help either.
        writer.write(VERSION + b"GET /ver")
        await reader.readuntil(b"}")
        assert await reader.read() == b""


# Their answers are more than the kernel holds for a reader.
MANY = 100 * b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_an_answer_that_is_not_read_is_not_kept_for_ever(
    api: RunningApi, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_SECONDS_FOR_READING", 0.2)
    async with connection(api) as (reader, writer):
        writer.write(MANY)

        def given_up() -> list[object]:
            return [line["what"] for line in log.lines if line["event"] == "slow_http"]

        assert await eventually(given_up, what="nobody waits for the reader") == ["answer"]
        assert (await reader.read()).count(b"HTTP/1.1 200 ") < 100
    log.has_no_traceback()


async def test_whoever_reads_after_a_while_may_go_on_asking(
    api: RunningApi, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_SECONDS_FOR_READING", 2.0)
    monkeypatch.setattr(protocol, "_SECONDS_FOR_HEAD", 3.0)
    async with connection(api) as (reader, writer):
        writer.write(MANY)
        await eventually(lambda: len(log.requests()) > 10, what="answers are on their way")
        for _ in range(100):
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        async with connection(api) as (idle, _):
            # It came last, and its time is longer.
            assert await idle.read() == b""
        writer.write(VERSION)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")


async def test_a_connection_can_go_bad_after_a_good_request(api: RunningApi, log: Log) -> None:
    async with connection(api) as (reader, writer):
        writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET / HTTP/1.1\r\nno header\r\n\r\n")
        assert b"400 Bad Request" in await reader.read()
    log.has_no_traceback()
    assert [line["event"] for line in log.lines] == ["http_request", "malformed_http"]


async def test_a_body_in_broken_chunks_is_not_waited_for(
    api: RunningApi, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_SECONDS_FOR_BODY", 0.5)
    async with connection(api) as (reader, writer):
        writer.write(post(api, b"Transfer-Encoding: chunked\r\n", b'5\r\n{"sto\r\n'))
        await eventually(lambda: is_known(api), what="the handler reads the body")
        writer.write(b"broken\r\n")
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    log.has_no_traceback()


async def is_known(api: RunningApi) -> bool:
    """Whether somebody with Alice's key has been let in."""
    key = await api.stores.keys.find(api.keys.alice.split("_")[1])
    return key is not None and key.last_used_at is not None


async def test_a_body_that_does_not_come_is_not_waited_for(
    api: RunningApi, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_SECONDS_FOR_BODY", 0.1)
    answer = await send(api, post(api, b"Content-Length: 500\r\n", b'{"story": '))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"REQUEST_TIMEOUT"' in answer
    assert [line["status"] for line in log.requests()] == [408]
    log.has_no_traceback()


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error_of_ours(
    api: RunningApi, log: Log
) -> None:
    async with connection(api) as (_, writer):
        writer.write(post(api, b"Content-Length: 500\r\n", b'{"story": '))
        await eventually(lambda: is_known(api), what="the handler reads the body")
        writer.transport.abort()
        [line] = await eventually(log.requests, what="the request's log line")
    assert (line["status"], line["code"], line["log_level"]) == (499, None, "info")
    log.has_no_traceback()


async def test_a_client_that_leaves_while_it_waits_is_no_error_of_ours(
    api: RunningApi, log: Log
) -> None:
    job = await api.submit()
    head = f"GET {JOBS}/{job}?wait=60 HTTP/1.1\r\nHost: x\r\nX-API-Key: {api.keys.alice}\r\n\r\n"
    async with connection(api) as (_, writer):
        writer.write(head.encode())
        await eventually(lambda: api.waited_for, what="it waits")
        writer.transport.abort()
        await api.complete(job, {})
        assert await eventually(lambda: log.requests()[1:], what="the request's log line")
    assert not api.waited_for
    log.has_no_traceback()


async def test_a_client_that_leaves_before_the_answer_has_still_submitted(
    api: RunningApi, observer: Observer
) -> None:
    body = b'{"story": "x", "agent": "noop"}'
    async with observer.transaction():
        await observer.run("LOCK TABLE jobs")
        async with connection(api) as (_, writer):
            writer.write(post(api, b"Content-Length: %d\r\n" % len(body), body))
            await observer.somebody_waits_for_a_lock()
            writer.transport.abort()
    query = "SELECT entry_id FROM jobs"
    assert await eventually(lambda: observer.value(query), what="its doorbell rings")
