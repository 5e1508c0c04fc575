"""Cancellation nudges, and subscriptions that notice when they are deaf."""

import asyncio
from time import monotonic
from uuid import UUID

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from service.domain.errors import Unavailable
from service.streams import keys
from service.streams.connection import command_client, once_client
from service.streams.event_feed import RedisEventFeed
from service.streams.nudges import RedisNudges
from service.streams.outages import Outage
from service.streams.subscription import Subscription
from service.supervision import Background
from tests.fixtures.factories import an_id
from tests.fixtures.proxy import redis_proxy_to
from tests.fixtures.streams import JobStreams
from tests.fixtures.waiting import eventually


class Listener:
    """Nudges, listened to, and all that was heard."""

    def __init__(self, job_streams: JobStreams, background: Background, url: str) -> None:
        self._redis = job_streams.commands
        self.nudges = RedisNudges(
            job_streams.client(command_client, "nudges", url=url),
            job_streams.client(once_client, "listener", url=url),
        )
        self.heard: list[UUID] = []
        self.task = background.spawn("listen", self.nudges.listen(self.heard.append))

    async def is_subscribed(self) -> bool:
        """Whether the server would deliver to it."""
        ((_, subscribers),) = await self._redis.pubsub_numsub(keys.CANCELLATIONS)
        return bool(subscribers == 1)


@pytest.fixture
async def listener(job_streams: JobStreams, background: Background) -> Listener:
    listener = Listener(job_streams, background, job_streams.url)
    await eventually(listener.is_subscribed)
    return listener


async def test_a_cancellation_is_heard(listener: Listener) -> None:
    jobs = [an_id(), an_id()]
    for job_id in jobs:
        await listener.nudges.cancel(job_id)
    await eventually(lambda: listener.heard == jobs)


@pytest.mark.parametrize("garbage", [b"", b"not an id", b"\xff\xfe", b"0" * 10_000])
async def test_garbage_is_ignored_and_the_next_cancellation_is_heard(
    listener: Listener, job_streams: JobStreams, garbage: bytes
) -> None:
    await job_streams.commands.publish(keys.CANCELLATIONS, garbage)
    job_id = an_id()
    await listener.nudges.cancel(job_id)
    await eventually(lambda: listener.heard == [job_id])


async def test_a_listener_whose_connection_is_killed_listens_again(
    listener: Listener, job_streams: JobStreams
) -> None:
    for _ in range(3):
        await job_streams.commands.client_kill_filter(_type="pubsub")
        await eventually(listener.is_subscribed)
        job_id = an_id()
        await listener.nudges.cancel(job_id)
        await eventually(lambda: job_id in listener.heard)  # noqa: B023 - awaited in the round
    assert not listener.task.done()


async def test_a_listener_that_is_cancelled_gives_its_subscription_up(
    listener: Listener, background: Background
) -> None:
    await background.cancel()
    assert listener.task.cancelled()

    async def is_gone() -> bool:
        return not await listener.is_subscribed()

    await eventually(is_gone)


async def test_a_listener_behind_a_cut_network_listens_again(
    job_streams: JobStreams, background: Background, redis_url: str
) -> None:
    async with redis_proxy_to(redis_url) as (proxy, url):
        listener = Listener(job_streams, background, url)
        await eventually(listener.is_subscribed)
        connections = proxy.connections
        proxy.cut()
        await eventually(lambda: proxy.connections > connections)
        await eventually(listener.is_subscribed)
        job_id = an_id()
        await listener.nudges.cancel(job_id)
        await eventually(lambda: job_id in listener.heard)
        await background.cancel()


async def test_an_outage_is_told_of_when_it_begins_and_when_it_is_over(
    job_streams: JobStreams, background: Background, redis_url: str
) -> None:
    with capture_logs() as lines:
        async with redis_proxy_to(redis_url) as (proxy, url):
            listener = Listener(job_streams, background, url)
            await eventually(listener.is_subscribed)
            proxy.cut()
            await eventually(lambda: any("reconnected" in line["event"] for line in lines))
            await background.cancel()
    told = [line["event"] for line in lines if "nudges" in line["event"]]
    assert told == ["nudges_disconnected", "nudges_reconnected"]


def test_an_outage_that_is_noticed_often_is_told_of_once() -> None:
    outage = Outage("feed", server="a")
    with capture_logs() as lines:
        for _ in range(2):
            outage.is_over()
            for _ in range(3):
                outage.lasts(Unavailable("Redis"))
            outage.is_over()
    assert [line["event"] for line in lines] == ["feed_disconnected", "feed_reconnected"] * 2
    assert {line["server"] for line in lines} == {"a"}


async def test_a_subscription_notices_a_frozen_network(
    job_streams: JobStreams, redis_url: str
) -> None:
    async with redis_proxy_to(redis_url) as (proxy, url):
        client = job_streams.client(once_client, "listener", url=url, timeout=1.0)
        async with client.pubsub(ignore_subscribe_messages=True) as connection:
            await connection.subscribe("channel")
            subscription = Subscription(connection, silence=2.0)
            await eventually(lambda: job_streams.commands.publish("channel", "before"))
            assert (await _next(subscription))["data"] == b"before"

            proxy.freeze()
            with pytest.raises(RedisConnectionError, match="silent"):
                await _next(subscription)


async def test_a_feed_behind_a_frozen_network_is_connected_anew(
    job_streams: JobStreams, background: Background, redis_url: str
) -> None:
    async with redis_proxy_to(redis_url) as (proxy, url):
        feed = RedisEventFeed(job_streams.client(once_client, "feed", url=url, timeout=1.0))
        connected = 0

        async def listen() -> None:
            nonlocal connected
            async for heard in feed.frames():
                connected += heard is None

        background.spawn("listen", listen())
        await eventually(lambda: connected == 1)
        proxy.freeze(new=False)
        await eventually(lambda: connected == 2)
        await background.cancel()


async def test_a_subscription_to_which_nothing_is_said_stays(job_streams: JobStreams) -> None:
    client = job_streams.client(once_client, "listener")
    async with client.pubsub(ignore_subscribe_messages=True) as connection:
        await connection.subscribe("channel")
        subscription = Subscription(connection, silence=2.0)
        started = monotonic()
        while monotonic() - started < 3.5:
            assert await subscription.next_message() is None

        await job_streams.commands.publish("channel", "after all")
        assert (await _next(subscription))["data"] == b"after all"


async def _next(subscription: Subscription) -> dict[str, object]:
    async with asyncio.timeout(20.0):
        while True:
            message = await subscription.next_message()
            if message is not None:
                return message
