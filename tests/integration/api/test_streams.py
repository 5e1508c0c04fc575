"""Event streams as clients get them: replay from anywhere, live frames, and the end."""

import asyncio
import socket
from typing import Any
from uuid import UUID

import pytest

from service.api import stream as stream_module
from service.domain.events import EventId
from service.domain.job import Owner
from service.streams import keys
from tests.fixtures.api import JOBS, RunningApi
from tests.fixtures.deployment import Deployment
from tests.fixtures.factories import an_id
from tests.fixtures.waiting import eventually
from tests.integration.api.authors import Author
from tests.integration.api.watchers import Watcher


@pytest.fixture
async def author(deployment: Deployment) -> Author:
    """A job that runs and has told nothing yet, and an API that serves it."""
    await deployment.start_api()
    return await Author.of_new_job(deployment)


@pytest.fixture
async def watcher(deployment: Deployment, author: Author) -> Watcher:
    """A client that has not connected yet."""
    return Watcher(deployment, author.job_id)


async def get(
    deployment: Deployment, job_id: UUID, query: str = "", key: str = "", **headers: str
) -> tuple[int, dict[str, str], str]:
    """Read a stream to its end; the job must have ended."""
    async with deployment.session.get(
        deployment.stream_url(job_id) + query, headers=deployment.sending(key or None, **headers)
    ) as response:
        return response.status, dict(response.headers), await response.text()


def ids(text: str) -> list[str]:
    """The ids in a whole stream."""
    return [line[4:] for line in text.splitlines() if line.startswith("id: ")]


async def test_an_ended_job_is_told_from_its_start_to_its_end(
    author: Author, watcher: Watcher
) -> None:
    told = [*await author.tell(3), await author.complete()]

    await watcher.watch()

    assert watcher.types[0] == "connected"
    assert watcher.ids == told == ["1-1", "1-2", "1-3", "1-4"]
    assert watcher.connections == 1
    watcher.assert_sound()


async def test_a_stream_begins_with_when_to_come_back_and_where_the_job_stands(
    deployment: Deployment, author: Author
) -> None:
    await author.tell()
    await author.complete()

    _, _, text = await get(deployment, author.job_id)

    retry, connected = text.split("\n\n")[:2]
    assert 500 <= int(retry.removeprefix("retry: ")) <= 1500
    assert connected.startswith('event: connected\ndata: {"type":"connected","jobId":"')
    assert '"status":"completed"' in connected


async def test_nothing_between_may_hold_a_stream_back(
    deployment: Deployment, author: Author
) -> None:
    await author.complete()

    status, headers, _ = await get(deployment, author.job_id)

    assert status == 200
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert headers["Cache-Control"] == "no-store, no-transform"
    assert headers["X-Accel-Buffering"] == "no"
    assert "Content-Encoding" not in headers
    assert "Content-Length" not in headers


@pytest.mark.parametrize(
    ("query", "header", "told"),
    [
        ("", "1-2", ["1-3", "1-4"]),
        ("?after=1-2", None, ["1-3", "1-4"]),
        ("?after=0-0", None, ["1-1", "1-2", "1-3", "1-4"]),
        # A browser that reconnects repeats the URL that it was given once.
        ("?after=1-1", "1-3", ["1-4"]),
        ("?after=1-3", "1-1", ["1-4"]),
        # What a browser sends by itself is never refused.
        ("", "garbage", ["1-1", "1-2", "1-3", "1-4"]),
        ("", "1-2; drop", ["1-1", "1-2", "1-3", "1-4"]),
        ("?after=1-2", "", ["1-3", "1-4"]),
    ],
)
async def test_a_client_goes_on_where_it_stopped(
    deployment: Deployment, author: Author, query: str, header: str | None, told: list[str]
) -> None:
    await author.tell(3)
    await author.commit()
    headers = {} if header is None else {"Last-Event-ID": header}

    status, _, text = await get(deployment, author.job_id, query, **headers)

    assert status == 200
    assert ids(text) == told


@pytest.mark.parametrize("cursor", ["1-4", "1-5", "2-1"])
async def test_who_has_seen_the_end_is_told_not_to_come_back(
    deployment: Deployment, author: Author, cursor: str
) -> None:
    await author.tell(3)
    await author.complete()

    answers = [
        await get(deployment, author.job_id, f"?after={cursor}"),
        await get(deployment, author.job_id, **{"Last-Event-ID": cursor}),
    ]

    assert [(status, text) for status, _, text in answers] == [(204, "")] * 2


@pytest.mark.parametrize(
    "after", ["", "x", "1", "1-", "-1", "1-2-3", "1-2%0A", "99999999999-1", "%C2%B9-1", "1-2 "]
)
async def test_a_cursor_that_is_none_is_refused(
    deployment: Deployment, author: Author, after: str
) -> None:
    status, headers, text = await get(deployment, author.job_id, f"?after={after}")

    assert (status, headers["Content-Type"]) == (400, "application/problem+json")
    assert '"field":"after"' in text


async def test_another_tenants_job_is_not_there(deployment: Deployment, author: Author) -> None:
    await author.complete()
    strangers = [
        await deployment.make_key(Owner("rival", "ann")),
        await deployment.make_key(Owner("acme", "bob")),
    ]

    foreign = [await get(deployment, author.job_id, key=key) for key in strangers]
    missing_id = an_id()
    _, _, missing = await get(deployment, missing_id)

    assert [status for status, _, _ in foreign] == [404, 404]
    assert {text.replace(str(author.job_id), str(missing_id)) for _, _, text in foreign} == {
        missing
    }


async def test_asking_for_the_head_opens_no_stream(deployment: Deployment, author: Author) -> None:
    async with (
        asyncio.timeout(2),
        deployment.session.head(
            deployment.stream_url(author.job_id), headers=deployment.sending()
        ) as response,
    ):
        body = await response.read()

    assert (response.status, body) == (200, b"")
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert await deployment.subscribers(author.job_id) == 0


async def test_what_happens_is_told_within_a_moment(author: Author, watcher: Watcher) -> None:
    first = await author.tell(2)
    watching = asyncio.create_task(watcher.watch())
    await eventually(lambda: watcher.ids == first, what="the history")

    for _ in range(5):
        latest = await author.tell()
        await eventually(lambda: watcher.ids[-1:] == latest, within=0.5, what=f"{latest} is told")  # noqa: B023
    await author.complete()
    await watching

    watcher.assert_sound()
    assert watcher.types.count("resync") == 0


async def test_silence_is_filled_with_comments_that_carry_no_id(
    deployment: Deployment, author: Author, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_KEEP_ALIVE_EVERY", 0.05)
    await author.tell()
    watching = asyncio.create_task(watcher.watch())

    await eventually(lambda: watcher.comments >= 3, what="three comments")
    assert watcher.ids == ["1-1"]
    await author.complete()
    await watching

    assert watcher.ids == ["1-1", "1-2"]
    watcher.assert_sound()


async def test_a_new_attempt_goes_on_in_the_same_stream(author: Author, watcher: Watcher) -> None:
    await author.tell(2)
    watching = asyncio.create_task(watcher.watch())
    await eventually(lambda: watcher.ids == ["1-1", "1-2"])

    await author.claim()
    await author.tell(2)
    await author.complete()
    await watching

    assert watcher.ids == ["1-1", "1-2", "2-1", "2-2", "2-3"]
    watcher.assert_sound()


async def test_of_a_running_job_only_the_attempt_that_counts_is_told(
    author: Author, watcher: Watcher
) -> None:
    # More than one page of the stream.
    await author.tell(450)
    await author.claim()
    await author.tell(2)
    watching = asyncio.create_task(watcher.watch())

    await eventually(lambda: watcher.ids == ["2-1", "2-2"], within=3)
    await author.complete()
    await watching

    watcher.assert_sound()


async def test_a_long_history_is_told_whole(author: Author, watcher: Watcher) -> None:
    told = [id_ for _ in range(10) for id_ in await author.tell(100)]
    told.append(await author.complete())

    await watcher.watch()

    assert watcher.ids == told
    watcher.assert_sound()


@pytest.mark.parametrize("after", ["0-0", "1-2"])
async def test_an_ended_job_whose_stream_is_gone_is_told_from_postgres(
    deployment: Deployment, author: Author, after: str
) -> None:
    await author.tell(3)
    await author.complete()
    await deployment.redis.delete(keys.events(author.job_id))
    cursor = EventId.parse(after)
    assert cursor is not None
    watcher = Watcher(deployment, author.job_id, after=cursor)

    await watcher.watch()

    assert watcher.types == ["connected", "resync", "complete"]
    assert watcher.ids == ["1-4"]
    watcher.assert_sound()


async def test_a_cancelled_job_ends_its_stream_at_once(
    deployment: Deployment, author: Author, watcher: Watcher
) -> None:
    await author.tell(2)
    watching = asyncio.create_task(watcher.watch())
    await eventually(lambda: watcher.ids == ["1-1", "1-2"])

    async with deployment.session.delete(
        f"{deployment.url}/api/v1/jobs/{author.job_id}", headers=deployment.sending()
    ) as response:
        assert response.status == 200
    async with asyncio.timeout(1.0):
        await watching

    assert watcher.ids == ["1-1", "1-2", "2-1"]
    assert watcher.types[-1] == "cancelled"
    watcher.assert_sound()


async def test_a_client_that_vanishes_costs_little_and_not_for_long(api: RunningApi) -> None:
    job_id = await api.submit()
    headers = api.sending()
    async with api.client.get(f"{JOBS}/{job_id}/stream", headers=headers) as response:
        await response.content.readline()
        ours: Any = response.connection
        runner: Any = api.client.server.runner
        transports = [handler.transport for handler in runner.server.connections]
        place = ours.transport.get_extra_info("sockname")
        [theirs] = [each for each in transports if each.get_extra_info("peername") == place]
        serving = theirs.get_extra_info("socket")

        # Linux keeps as much again for its own books.
        assert serving.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 65_536
        assert serving.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
