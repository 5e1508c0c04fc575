"""Events on their way to readers, through a real server."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from service.domain.errors import Unavailable
from service.domain.events import EventId, EventType, JobEvent
from service.domain.frames import Frame
from service.ports.events import Appended
from service.streams import event_feed, keys
from service.streams.connection import command_client, once_client
from service.streams.event_feed import RedisEventFeed
from service.streams.event_log import RedisEventLog
from service.supervision import Background
from tests.fixtures.event_logs import an_event
from tests.fixtures.proxy import redis_proxy_to
from tests.fixtures.waiting import eventually


class Listener:
    """A feed, and all that it has yielded."""

    def __init__(self, url: str, background: Background) -> None:
        self._client = once_client(url, name="feed")
        self.feed = RedisEventFeed(self._client)
        self.heard: list[tuple[UUID, Frame] | None] = []
        self._task = background.spawn("listen", self._listen())

    async def _listen(self) -> None:
        async for each in self.feed.frames():
            self.heard.append(each)

    @property
    def connections(self) -> int:
        return self.heard.count(None)

    def ids(self, job_id: UUID) -> list[str]:
        return [str(each[1].id) for each in self.heard if each and each[0] == job_id]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._client.aclose()


@pytest.fixture
async def log(redis_url: str, background: Background) -> AsyncIterator[RedisEventLog]:
    client = command_client(redis_url, name="log")
    yield RedisEventLog(client, background)
    await client.aclose()


@pytest.fixture
async def listener(redis_url: str, background: Background) -> AsyncIterator[Listener]:
    listener = Listener(redis_url, background)
    await eventually(lambda: listener.connections == 1)
    yield listener
    await listener.close()


async def test_frames_of_subscribed_jobs_arrive_as_they_are_appended(
    log: RedisEventLog, listener: Listener
) -> None:
    job, other = uuid4(), uuid4()
    await listener.feed.subscribe(job)
    await log.append(other, [an_event(other, 1, 1)], 60.0)
    await log.append(job, [an_event(job, 1, 1), an_event(job, 1, 2)], 60.0)

    await eventually(lambda: listener.ids(job) == ["1-1", "1-2"])
    assert listener.ids(other) == []


async def test_a_repeated_append_is_published_once(log: RedisEventLog, listener: Listener) -> None:
    job = uuid4()
    await listener.feed.subscribe(job)
    for _ in range(3):
        await log.append(job, [an_event(job, 1, 1)], 60.0)
    await log.append(job, [an_event(job, 1, 2)], 60.0)

    await eventually(lambda: listener.ids(job)[-1:] == ["1-2"])
    assert listener.ids(job) == ["1-1", "1-2"]


async def test_unsubscribing_ends_the_frames_of_that_job_alone(
    log: RedisEventLog, listener: Listener
) -> None:
    job, other = uuid4(), uuid4()
    await listener.feed.subscribe(job)
    await listener.feed.subscribe(other)
    await listener.feed.unsubscribe(job)
    await log.append(job, [an_event(job, 1, 1)], 60.0)
    await log.append(other, [an_event(other, 1, 1)], 60.0)

    await eventually(lambda: listener.ids(other) == ["1-1"])
    assert listener.ids(job) == []


async def test_a_cut_connection_is_made_again_with_all_its_subscriptions(
    log: RedisEventLog, listener: Listener, redis_url: str
) -> None:
    job = uuid4()
    await listener.feed.subscribe(job)
    async with Redis.from_url(redis_url) as admin:
        await admin.client_kill_filter(_type="pubsub")

    await eventually(lambda: listener.connections == 2)
    await log.append(job, [an_event(job, 1, 1)], 60.0)
    await eventually(lambda: listener.ids(job) == ["1-1"])


async def test_a_job_watched_while_disconnected_is_subscribed_to_afterwards(
    log: RedisEventLog, redis_url: str, background: Background
) -> None:
    job = uuid4()
    client = once_client(redis_url, name="feed")
    feed = RedisEventFeed(client)
    with pytest.raises(Unavailable):
        await feed.subscribe(job)

    frames = feed.frames()
    assert await anext(frames) is None
    await log.append(job, [an_event(job, 1, 1)], 60.0)
    heard = await anext(frames)

    assert heard is not None
    assert (heard[0], heard[1].id) == (job, EventId(1, 1))
    await frames.aclose()  # type: ignore[attr-defined]  # an async generator behind its protocol
    await client.aclose()


async def test_a_subscription_counts_when_it_is_confirmed(
    log: RedisEventLog, background: Background, redis_url: str
) -> None:
    job = uuid4()
    async with redis_proxy_to(redis_url) as (proxy, url):
        listener = Listener(url, background)
        await eventually(lambda: listener.connections == 1)
        proxy.freeze()
        subscribing = asyncio.create_task(listener.feed.subscribe(job))
        await eventually(lambda: keys.live(job).encode() in _channels(listener))
        await asyncio.wait({subscribing}, timeout=0.2)
        assert not subscribing.done()

        proxy.thaw()
        await subscribing
        # From here on nothing is missed, so a reader may look at the stream now.
        await log.append(job, [an_event(job, 1, 1)], 60.0)

        await eventually(lambda: listener.ids(job) == ["1-1"])
        await listener.close()


async def test_who_leaves_while_subscribing_does_not_take_the_next_one_along(
    log: RedisEventLog, background: Background, redis_url: str
) -> None:
    job = uuid4()
    async with redis_proxy_to(redis_url) as (proxy, url):
        listener = Listener(url, background)
        await eventually(lambda: listener.connections == 1)
        proxy.freeze()
        leaving = asyncio.create_task(listener.feed.subscribe(job))
        await eventually(lambda: keys.live(job).encode() in _channels(listener))
        leaving.cancel()
        await asyncio.wait({leaving})
        staying = asyncio.create_task(listener.feed.subscribe(job))
        proxy.thaw()
        await staying
        await log.append(job, [an_event(job, 1, 1)], 60.0)

        await eventually(lambda: listener.ids(job) == ["1-1"])
        await listener.close()


def _channels(listener: Listener) -> set[bytes]:
    """What has been subscribed to, confirmed or not."""
    connection = listener.feed._connection
    return set(connection.channels) if connection else set()


async def test_who_comes_while_the_last_one_leaves_is_subscribed(
    log: RedisEventLog, listener: Listener
) -> None:
    job = uuid4()
    await listener.feed.subscribe(job)
    for seq in range(1, 30):
        await asyncio.gather(listener.feed.unsubscribe(job), listener.feed.subscribe(job))
        await log.append(job, [an_event(job, 1, seq)], 60.0)

    await eventually(lambda: listener.ids(job) == [f"1-{seq}" for seq in range(1, 30)])


async def test_thousands_of_subscriptions_are_made_again_however_long_that_takes(
    log: RedisEventLog, listener: Listener, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_feed, "_CONFIRMED_WITHIN", 0.1)
    jobs = [uuid4() for _ in range(5000)]
    # As if they had come while Redis was away.
    listener.feed._watched.update(jobs)
    async with Redis.from_url(redis_url) as admin:
        await admin.client_kill_filter(_type="pubsub")

    await eventually(lambda: listener.connections == 2)
    await log.append(jobs[0], [an_event(jobs[0], 1, 1)], 60.0)
    await eventually(lambda: listener.ids(jobs[0]) == ["1-1"])


async def test_messages_that_are_no_frames_are_dropped(
    log: RedisEventLog, listener: Listener, redis_url: str
) -> None:
    job = uuid4()
    await listener.feed.subscribe(job)
    async with Redis.from_url(redis_url) as admin:
        await admin.publish(f"usa:live:{{{job}}}", b"garbage")
        await admin.publish("usa:live", b"garbage")
    await log.append(job, [an_event(job, 1, 1)], 60.0)

    await eventually(lambda: listener.ids(job) == ["1-1"])


async def test_appends_that_become_ready_together_keep_their_own_outcomes(
    log: RedisEventLog, redis_url: str
) -> None:
    good, bad, fenced = uuid4(), uuid4(), uuid4()
    await log.append(fenced, [an_event(fenced, 2, 1)], 60.0)
    async with Redis.from_url(redis_url) as admin:
        await admin.set(f"usa:events:{{{bad}}}", "not a stream")

    answers = await asyncio.gather(
        *(log.append(job, [an_event(job, 1, 1)], 60.0) for job in (good, bad, fenced)),
        return_exceptions=True,
    )

    assert [getattr(answer, "verdict", None) for answer in answers] == ["appended", None, "fenced"]
    assert isinstance(answers[1], Exception)


async def test_a_full_server_is_unavailable(log: RedisEventLog, redis_url: str) -> None:
    job = uuid4()
    await log.append(job, [an_event(job, 1, 1)], 60.0)
    async with Redis.from_url(redis_url) as admin:
        await admin.config_set("maxmemory", 1)
        try:
            with pytest.raises(Unavailable):
                await log.append(job, [an_event(job, 1, 2)], 60.0)
        finally:
            await admin.config_set("maxmemory", 0)

    assert (await log.append(job, [an_event(job, 1, 2)], 60.0)).is_complete


async def test_an_event_that_cannot_be_rendered_is_refused_alone(log: RedisEventLog) -> None:
    good, bad = uuid4(), uuid4()
    half_a_character = JobEvent(EventId(1, 1), EventType.START, {"text": "\ud800"})

    answers = await asyncio.gather(
        log.append(good, [an_event(good, 1, 1)], 60.0),
        log.append(bad, [half_a_character], 60.0),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [Appended, TypeError]


async def test_what_is_no_stream_hides_no_other_jobs_last_event(
    log: RedisEventLog, redis_url: str
) -> None:
    good, bad = uuid4(), uuid4()
    await log.append(good, [an_event(good, 1, 1)], 60.0)
    async with Redis.from_url(redis_url) as admin:
        await admin.set(f"usa:events:{{{bad}}}", "not a stream")

    assert await log.last_ids([bad, good]) == {good: EventId(1, 1)}


async def test_a_server_that_has_forgotten_the_script_gets_it_again(
    log: RedisEventLog, redis_url: str
) -> None:
    job = uuid4()
    await log.append(job, [an_event(job, 1, 1)], 60.0)
    async with Redis.from_url(redis_url) as admin:
        await admin.script_flush()

    assert (await log.append(job, [an_event(job, 1, 2)], 60.0)).is_complete
