"""However a stream is cut, a follower gets every event once, in order, up to the last."""

import asyncio
from contextlib import aclosing
from uuid import UUID

import pytest

from service.client.api_client import ApiClient
from service.client.errors import ApiProblem, UnexpectedReply, Unreachable
from tests.fixtures.waiting import eventually
from tests.integration.client.misbehaving import (
    Behaviour,
    MisbehavingServer,
    drops,
    event,
    refuses,
    says,
    streams,
)

JOB = UUID("01a21088-29e1-77e7-bdbc-91ca6407d65d")
# The server asks for a pause that tests can afford.
SOON = b"retry: 5\n\n"
CONNECTED = event(None, "connected", status="processing")
EVENTS = [
    event("1-1", "start"),
    event("1-2", "iteration:start", iteration="security"),
    event("1-3", "iteration:complete", iteration="security"),
    event("1-4", "complete", result={}),
]
IDS = ["1-1", "1-2", "1-3", "1-4"]


async def followed(client: ApiClient, after: str | None = None) -> list[str]:
    """The ids of all events, `type` for those without one."""
    return [each.id or each.type async for each in client.follow(JOB, after)]


def asked_after(server: MisbehavingServer) -> list[str | None]:
    return [seen.headers.get("Last-Event-ID") for seen in server.seen]


async def test_a_whole_stream_is_read_and_left_at_its_last_event(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(streams(CONNECTED, *EVENTS, event("1-5", "start"), then="hang"))
    assert await followed(client) == ["connected", *IDS]
    seen = server.seen[0]
    assert (seen.path, seen.headers["Accept"]) == (
        f"/api/v1/jobs/{JOB}/stream",
        "text/event-stream",
    )
    assert seen.headers["Accept-Encoding"] == "identity"
    assert "Last-Event-ID" not in seen.headers


@pytest.mark.parametrize("then", ["end", "abort"])
async def test_a_cut_stream_is_taken_up_after_the_last_whole_event(
    server: MisbehavingServer, client: ApiClient, troubles: list[str], then: str
) -> None:
    server.plays(
        streams(SOON, EVENTS[0], EVENTS[1][:-1], then=then),
        streams(SOON, *EVENTS[1:3], then=then),
        streams(EVENTS[3]),
    )
    assert await followed(client) == IDS
    assert asked_after(server) == [None, "1-1", "1-3"]
    assert len(troubles) == 2


async def test_a_server_that_begins_anew_repeats_nothing_to_the_follower(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(streams(SOON, *EVENTS[:3], then="abort"), streams(CONNECTED, *EVENTS))
    assert await followed(client) == ["1-1", "1-2", "1-3", "connected", "1-4"]


async def test_following_goes_on_after_an_event_that_was_seen_before(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(streams(*EVENTS))
    assert await followed(client, after="1-2") == ["1-3", "1-4"]
    assert asked_after(server) == ["1-2"]


async def test_nothing_after_the_last_event_is_no_trouble(
    server: MisbehavingServer, client: ApiClient, troubles: list[str]
) -> None:
    server.plays(says(204))
    assert await followed(client, after="1-4") == []
    assert troubles == []


async def test_a_silent_stream_counts_as_cut(
    server: MisbehavingServer, client: ApiClient, troubles: list[str]
) -> None:
    server.plays(streams(SOON, EVENTS[0], then="hang"), streams(*EVENTS[1:]))
    assert await followed(client) == IDS
    assert "no answer in time" in troubles[0]


async def test_keep_alives_keep_a_stream_alive(
    server: MisbehavingServer, client: ApiClient, troubles: list[str]
) -> None:
    server.plays(streams(*[b":\n\n"] * 8, *EVENTS, every=0.1))
    assert await followed(client) == IDS
    assert troubles == []


@pytest.mark.parametrize(
    "trouble",
    [
        refuses(503, "UNAVAILABLE", Retry_After="0"),
        refuses(429, "RATE_LIMIT_EXCEEDED", Retry_After="0"),
        says(502, b"<html>", "text/html"),
        drops,
    ],
    ids=["503", "429", "502", "dropped"],
)
async def test_trouble_between_two_connections_is_waited_out(
    server: MisbehavingServer, client: ApiClient, trouble: Behaviour
) -> None:
    server.plays(streams(SOON, *EVENTS[:2], then="abort"), trouble, streams(*EVENTS[2:]))
    assert await followed(client) == IDS


async def test_a_service_that_restarts_is_found_again(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(streams(SOON, *EVENTS[:2], then="hang"), streams(*EVENTS[2:]))
    ids = []
    async with aclosing(client.follow(JOB)) as events:
        async for each in events:
            ids.append(each.id)
            if each.id == "1-2":
                await server.stop()
                await server.start()
    assert ids == IDS


async def test_a_service_that_stays_away_is_given_up(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(streams(SOON, *EVENTS[:2], then="hang"))
    events = client.follow(JOB)
    assert [(await anext(events)).id for _ in range(2)] == IDS[:2]
    await server.stop()
    with pytest.raises(Unreachable, match="Connection refused"):
        await anext(events)


async def test_a_server_that_only_ever_opens_streams_is_given_up(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(streams())
    with pytest.raises(Unreachable, match="it ended"):
        await followed(client)
    assert len(server.seen) > 1


@pytest.mark.parametrize(
    ("behaviour", "what"),
    [
        (streams(b"<html>", content_type="text/html"), "it sent text/html"),
        (says(302, b"", Location="https://elsewhere.example/"), "redirects to https://elsewhere"),
        (says(404, b"<html>", "text/html"), "404 without a reason"),
        (streams(b"id: 1-1\nevent: start\ndata: {oops\n\n"), "an event that cannot be read"),
        (streams(b"id: 1-1\nevent: start\ndata: []\n\n"), "an event that cannot be read"),
    ],
    ids=["html", "redirect", "404", "no JSON", "no object"],
)
async def test_what_is_no_stream_of_this_service_is_not_read(
    server: MisbehavingServer, client: ApiClient, behaviour: Behaviour, what: str
) -> None:
    server.plays(behaviour)
    with pytest.raises(UnexpectedReply, match=what):
        await followed(client)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refused_stream_is_final(
    server: MisbehavingServer, client: ApiClient, status: int
) -> None:
    server.plays(refuses(status, "SOME_CODE"))
    with pytest.raises(ApiProblem, match="SOME_CODE"):
        await followed(client)
    assert len(server.seen) == 1


async def test_a_follower_that_leaves_closes_its_connection(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(streams(*EVENTS[:2], then="hang"))
    async with aclosing(client.follow(JOB)) as events:
        assert (await anext(events)).id == "1-1"
        assert server.open_streams == 1
    await eventually(lambda: server.open_streams == 0, within=2.0)


async def test_a_cancelled_follower_closes_its_connection(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(streams(*EVENTS[:2], then="hang"))
    following = asyncio.create_task(followed(client))
    await eventually(lambda: server.open_streams == 1, within=2.0)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    await eventually(lambda: server.open_streams == 0, within=2.0)


async def test_an_id_that_is_none_is_refused_before_anything_is_asked(
    server: MisbehavingServer, client: ApiClient
) -> None:
    with pytest.raises(ValueError, match="not an event id"):
        await followed(client, after="latest")
    assert server.seen == []
