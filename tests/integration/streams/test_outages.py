"""Redis lost, full, demoted or cut off: delays, never losses and never a second entry."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any

import pytest

from service.domain.attempt import Delivery
from service.domain.errors import Unavailable
from service.streams import keys
from service.streams.connection import Client, once_client
from service.streams.event_log import RedisEventLog
from service.streams.job_stream import RedisEntryWriter
from service.supervision import Background
from tests.fixtures.event_logs import an_event
from tests.fixtures.factories import an_id
from tests.fixtures.proxy import Proxy, redis_proxy_to
from tests.fixtures.streams import BOTH, JobStreams
from tests.fixtures.waiting import eventually

LONG = 20.0


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with redis_proxy_to(redis_url) as (proxy, _):
        yield proxy


def through(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}"


async def a_writer(job_streams: JobStreams, proxy: Proxy, *, timeout: float) -> RedisEntryWriter:
    """A writer whose connection is open, so that only its own commands meet what comes."""
    client = job_streams.client(once_client, "writer", url=through(proxy), timeout=timeout)
    await client.ping()
    return RedisEntryWriter(client)


# --- a network that loses replies --------------------------------------------------------------


async def test_an_entry_whose_reply_is_lost_is_not_added_twice(
    job_streams: JobStreams, proxy: Proxy
) -> None:
    writer = await a_writer(job_streams, proxy, timeout=3.0)
    proxy.lose_next_answer()
    with pytest.raises(Unavailable):
        await writer.add_entry(an_id(), 0, None)

    assert len(await job_streams.entry_ids()) == 1
    added = await writer.add_entry(an_id(), 0, None)
    assert (await job_streams.entry_ids())[1:] == [added.entry_id]


async def test_an_entry_on_a_frozen_network_fails_in_time_and_is_not_sent_again(
    job_streams: JobStreams, proxy: Proxy
) -> None:
    writer = await a_writer(job_streams, proxy, timeout=0.5)
    proxy.freeze()
    started = monotonic()
    with pytest.raises(Unavailable):
        await writer.add_entry(an_id(), 0, None)
    assert monotonic() - started < 5

    proxy.thaw()
    await eventually(lambda: proxy.open_connections == 0, what="the connection was given up")
    assert len(await job_streams.entry_ids()) <= 1


async def test_an_entry_on_an_idle_connection_that_was_cut_is_added_once(
    job_streams: JobStreams, proxy: Proxy
) -> None:
    writer = await a_writer(job_streams, proxy, timeout=3.0)
    proxy.cut()
    await eventually(lambda: proxy.open_connections == 0)

    added = await writer.add_entry(an_id(), 0, None)
    assert await job_streams.entry_ids() == [added.entry_id]


async def test_entries_whose_delivery_was_lost_are_found_again(
    job_streams: JobStreams, proxy: Proxy
) -> None:
    consumer = job_streams.consumer(url=through(proxy))
    await consumer.read_new(1)
    entry = await job_streams.add(1)
    proxy.lose_next_answer()

    with pytest.raises(Unavailable):
        await consumer.read_new(1)
    assert await job_streams.pending() == {entry.entry_id: "one"}
    assert await consumer.read_own_pending() == [entry]


async def test_entries_whose_takeover_was_lost_are_found_again(
    job_streams: JobStreams, proxy: Proxy
) -> None:
    entry = await job_streams.add(1)
    await job_streams.consumer("one").read_new(1)
    await job_streams.age(entry, 61.0)
    consumer = job_streams.consumer("two", url=through(proxy))
    assert await consumer.read_own_pending() == []
    proxy.lose_next_answer()

    with pytest.raises(Unavailable):
        await consumer.reclaim(1)
    assert await consumer.read_own_pending() == [entry]


async def test_an_acknowledgement_whose_reply_is_lost_is_repeated(
    job_streams: JobStreams, proxy: Proxy
) -> None:
    entry = await job_streams.add()
    consumer = job_streams.consumer(url=through(proxy))
    await consumer.read_new(1)
    await consumer.acknowledge_if_owner([Delivery(keys.JOBS, "1-1", an_id())])
    accepted = proxy.connections
    proxy.lose_next_answer()

    await consumer.acknowledge_if_owner([entry])
    assert await job_streams.entry_ids() == []
    assert await job_streams.pending() == {}
    assert proxy.connections == accepted + 1


async def test_a_wait_on_a_frozen_network_ends_with_the_socket_timeout(
    job_streams: JobStreams, proxy: Proxy
) -> None:
    consumer = job_streams.consumer(url=through(proxy), block=0.2, timeout=1.0)
    assert await consumer.read_new(1) == []
    proxy.freeze()
    started = monotonic()
    with pytest.raises(Unavailable):
        await consumer.read_new(1)
    assert 0.9 <= monotonic() - started < 5


async def test_a_slow_network_is_no_outage(job_streams: JobStreams, proxy: Proxy) -> None:
    consumer = job_streams.consumer(url=through(proxy), block=0.2, timeout=2.0)
    proxy.delay(0.1)
    assert await consumer.read_new(1) == []
    entry = await job_streams.add()
    assert await consumer.read_new(1) == [entry]


# --- streams that disappear --------------------------------------------------------------------


async def _destroy_groups(redis: Client) -> None:
    for stream in BOTH:
        await redis.xgroup_destroy(stream, keys.GROUP)


LOSSES: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "FLUSHALL": lambda redis: redis.flushall(),
    "DEL of both streams": lambda redis: redis.delete(*BOTH),
    "UNLINK of the backlog": lambda redis: redis.unlink(keys.JOBS),
    "XGROUP DESTROY": _destroy_groups,
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_a_reader_that_waits_when_streams_are_lost_reads_what_comes_next(
    job_streams: JobStreams, loss: Callable[[Client], Awaitable[Any]]
) -> None:
    consumer = job_streams.consumer(block=0.4)
    reading = asyncio.create_task(consumer.read_new(1))
    await eventually(job_streams.somebody_waits)
    await loss(job_streams.commands)
    added = [await job_streams.add(attempt) for attempt in (0, 1)]

    async with asyncio.timeout(LONG):
        found = await reading
        while len(found) < 2:
            found += await consumer.read_new(1)
    assert sorted(found, key=lambda each: each.stream) == added


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_a_reader_that_comes_after_the_loss_reads_what_is_there(
    job_streams: JobStreams, loss: Callable[[Client], Awaitable[Any]]
) -> None:
    consumer = job_streams.consumer(block=0.05)
    await consumer.read_new(1)
    await loss(job_streams.commands)
    added = [await job_streams.add(attempt) for attempt in (0, 1)]

    found = [each for _ in range(4) for each in await consumer.read_new(1)]
    assert sorted(found, key=lambda each: each.stream) == added


# --- servers that refuse -----------------------------------------------------------------------


async def test_a_full_server_is_unavailable_for_new_entries_and_serves_the_old(
    job_streams: JobStreams,
) -> None:
    entries = [await job_streams.add() for _ in range(3)]
    consumer = job_streams.consumer()
    await consumer.read_new(2)
    await job_streams.commands.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unavailable):
            await job_streams.add()
        assert await consumer.read_new(1) == entries[2:]
        assert await job_streams.leases().renew_if_owner(entries) == 3
        assert await consumer.acknowledge_if_owner(entries[:2]) == 2
        assert await consumer.release_if_owner(entries[2:]) == 1
        assert await job_streams.consumer("two").reclaim(1) == entries[2:]
    finally:
        await job_streams.commands.config_set("maxmemory", "0")
    await job_streams.add()


async def test_a_full_server_is_unavailable_for_events(job_streams: JobStreams) -> None:
    background = Background()
    log = RedisEventLog(job_streams.commands, background)
    job_id = an_id()
    await log.append(job_id, [an_event(job_id, 1, 1)], 60.0)
    await job_streams.commands.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unavailable):
            await log.append(job_id, [an_event(job_id, 1, 2)], 60.0)
    finally:
        await job_streams.commands.config_set("maxmemory", "0")
    assert (await log.append(job_id, [an_event(job_id, 1, 2)], 60.0)).is_complete
    await background.cancel()


async def test_a_primary_without_its_replicas_is_unavailable(job_streams: JobStreams) -> None:
    entry = await job_streams.add()
    consumer = job_streams.consumer()
    await consumer.read_new(1)
    await job_streams.commands.config_set("min-replicas-to-write", "1")
    try:
        for act in (job_streams.add(), consumer.acknowledge_if_owner([entry])):
            with pytest.raises(Unavailable):
                await act
    finally:
        await job_streams.commands.config_set("min-replicas-to-write", "0")
    assert await consumer.acknowledge_if_owner([entry]) == 1


async def test_a_demoted_server_is_unavailable_and_left_for_whoever_has_its_address(
    job_streams: JobStreams, proxy: Proxy
) -> None:
    entry = await job_streams.add()
    consumer = job_streams.consumer(url=through(proxy))
    writer = await a_writer(job_streams, proxy, timeout=3.0)
    await consumer.read_new(1)
    await consumer.acknowledge_if_owner([Delivery(keys.JOBS, "1-1", an_id())])
    await job_streams.commands.replicaof("127.0.0.1", "1")
    try:
        await _refused_and_left(proxy, writer.add_entry(an_id(), 0, None))
        await _refused_and_left(proxy, consumer.read_new(1))
        await _refused_and_left(proxy, consumer.acknowledge_if_owner([entry]))
    finally:
        await job_streams.commands.replicaof("no", "one")
    assert await consumer.acknowledge_if_owner([entry]) == 1


async def _refused_and_left(proxy: Proxy, act: Awaitable[object]) -> None:
    before = proxy.open_connections
    with pytest.raises(Unavailable):
        await act
    await eventually(lambda: proxy.open_connections < before)


async def test_a_reader_that_waits_at_a_server_when_it_is_demoted_recovers(
    job_streams: JobStreams,
) -> None:
    consumer = job_streams.consumer(block=2.0)
    reading = asyncio.create_task(consumer.read_new(1))
    await eventually(job_streams.somebody_waits)
    await job_streams.commands.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(Unavailable):
            await reading
    finally:
        await job_streams.commands.replicaof("no", "one")
    entry = await job_streams.add()
    assert await consumer.read_new(1) == [entry]


async def test_a_server_busy_with_somebodys_script_is_unavailable(
    job_streams: JobStreams,
) -> None:
    slow = job_streams.client(once_client, "slow", timeout=LONG)
    limit = (await job_streams.commands.config_get("lua-time-limit"))["lua-time-limit"]
    await job_streams.commands.config_set("lua-time-limit", 50)
    running = asyncio.create_task(_killed(slow.eval("while true do end", 0)))
    try:
        with pytest.raises(Unavailable):
            await _add_until_refused(job_streams)
    finally:
        await job_streams.commands.script_kill()
        await running
        await job_streams.commands.config_set("lua-time-limit", limit or 5_000)
    await job_streams.add()


async def _add_until_refused(job_streams: JobStreams) -> None:
    while True:
        await job_streams.add()


async def _killed(script: Awaitable[Any]) -> None:
    with pytest.raises(Exception, match="killed by user"):
        await script
