"""Many clients at once: they share what can be shared, and none suffers from another."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest

from service.api import api_keys as keys_module
from service.api import stream as stream_module
from service.bootstrap import revoke_api_key
from service.domain.api_keys import parse_key
from service.telemetry.metrics import REGISTRY
from tests.fixtures.deployment import Deployment
from tests.fixtures.waiting import eventually
from tests.integration.api.authors import Author
from tests.integration.api.watchers import Watcher

_CROWD = 200
_JOBS = 20


def metric(name: str) -> float:
    """What a metric says now."""
    return REGISTRY.get_sample_value(name) or 0.0


@pytest.fixture
async def author(deployment: Deployment) -> Author:
    """A job that runs and has told one thing, and an API that serves it."""
    await deployment.start_api()
    author = await Author.of_new_job(deployment)
    await author.tell()
    return author


@asynccontextmanager
async def watching(watcher: Watcher) -> AsyncIterator[Watcher]:
    """Watch inside this block and leave without a word."""
    task = asyncio.create_task(watcher.watch())
    await eventually(lambda: watcher.ids, what="the history")
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_clients_of_one_job_share_one_subscription_until_the_last_one_leaves(
    deployment: Deployment, author: Author
) -> None:
    async with watching(Watcher(deployment, author.job_id)) as first:
        async with watching(Watcher(deployment, author.job_id)) as second:
            assert await deployment.subscribers(author.job_id) == 1
            told = await author.tell()
            await eventually(lambda: first.ids[-1:] == second.ids[-1:] == told)
        told = await author.tell()
        await eventually(lambda: first.ids[-1:] == told, within=1)
        assert await deployment.subscribers(author.job_id) == 1

    async def is_free() -> bool:
        return await deployment.subscribers(author.job_id) == 0

    await eventually(is_free, within=5, what="nobody is subscribed")
    assert second.ids == ["1-1", "1-2"]


async def test_who_leaves_without_a_word_is_noticed_long_before_anything_is_written(
    deployment: Deployment, author: Author
) -> None:
    async with watching(Watcher(deployment, author.job_id)):
        assert metric("usa_sse_clients") == 1

    await eventually(lambda: metric("usa_sse_clients") == 0, within=3, what="nobody is counted")


async def test_who_comes_as_the_last_one_leaves_misses_nothing(
    deployment: Deployment, author: Author
) -> None:
    """The subscription is given up and made again in the same moment."""
    told = []
    for _ in range(10):
        async with watching(Watcher(deployment, author.job_id)):
            pass
        async with watching(Watcher(deployment, author.job_id)) as next_one:
            told = await author.tell()
            await eventually(lambda: next_one.ids[-1:] == told, within=1)  # noqa: B023


async def test_a_client_that_does_not_read_is_dropped_and_holds_nobody_up(
    deployment: Deployment, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_LONGEST_WRITE", 0.3)
    before = metric("usa_sse_dropped_total")
    deaf = await _a_deaf_client(deployment, author)
    reader = Watcher(deployment, author.job_id)

    async with watching(reader):
        for _ in range(60):
            told = await author.tell(text="x" * 20_000)
            await eventually(lambda: reader.ids[-1:] == told, within=1)  # noqa: B023
        await eventually(
            lambda: metric("usa_sse_dropped_total") == before + 1, within=3, what="it is dropped"
        )
        assert metric("usa_sse_clients") == 1
        assert reader.connections == 1
    async with asyncio.timeout(2):
        assert not (await _rest(deaf)).endswith(b"0\r\n\r\n"), "it was cut, not ended"


async def _a_deaf_client(deployment: Deployment, author: Author) -> socket.socket:
    """Ask for a stream, and read nothing of it."""
    address = urlsplit(deployment.url)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(deaf, (address.hostname, address.port))
    path = urlsplit(deployment.stream_url(author.job_id)).path
    head = f"GET {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {deployment.key}\r\n\r\n"
    await loop.sock_sendall(deaf, head.encode())
    await eventually(lambda: metric("usa_sse_clients") == 1, what="its stream is open")
    return deaf


async def _rest(deaf: socket.socket) -> bytes:
    """Everything that is still on its way, once the other side has given the connection up."""
    rest = b""
    with deaf, suppress(ConnectionResetError):
        while chunk := await asyncio.get_running_loop().sock_recv(deaf, 65_536):
            rest += chunk
    return rest


async def test_a_revoked_key_ends_the_streams_that_it_opened_however_quiet_they_are(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_AUTHORIZE_EVERY", 0.1)
    monkeypatch.setattr(keys_module, "_KNOWN_FOR", 0.1)
    await deployment.start_api()
    author = await Author.of_new_job(deployment)
    await author.tell()
    watcher = Watcher(deployment, author.job_id)
    connection = asyncio.create_task(watcher.connect())
    await eventually(lambda: watcher.comments >= 4, what="the stream outlives a check")
    key = parse_key(deployment.key)
    assert key is not None

    await revoke_api_key(deployment.settings, key.prefix)
    await asyncio.wait({connection}, timeout=2)
    await author.tell()

    assert connection.done()
    assert connection.exception() is not None
    assert watcher.ids == ["1-1"]


async def test_two_hundred_clients_of_twenty_jobs_all_get_everything(
    deployment: Deployment, author: Author
) -> None:
    authors = [author, *[await Author.of_new_job(deployment) for _ in range(_JOBS - 1)]]
    watchers = [Watcher(deployment, authors[number % _JOBS].job_id) for number in range(_CROWD)]
    tasks = [asyncio.create_task(watcher.watch()) for watcher in watchers]
    await eventually(lambda: metric("usa_sse_clients") == _CROWD, within=20)

    async def run(one: Author) -> None:
        for number in range(15):
            await one.tell(1 + number % 3)
        await one.complete()

    await asyncio.gather(*(run(one) for one in authors))
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks)

    for watcher in watchers:
        watcher.assert_sound()
        assert watcher.connections == 1
        assert "resync" not in watcher.types
    assert {len({str(w.ids) for w in watchers if w.job_id == each.job_id}) for each in authors} == {
        1
    }
    assert [await deployment.subscribers(each.job_id) for each in authors] == [0] * _JOBS
