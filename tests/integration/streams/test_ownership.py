"""Only who holds an entry can acknowledge, renew or release it."""

import asyncio

import pytest
from redis.exceptions import ResponseError

from service.domain.attempt import Delivery
from service.streams import keys
from service.streams.job_stream import RedisJobStream
from tests.fixtures.streams import JobStreams


async def taken_over(job_streams: JobStreams) -> tuple[Delivery, RedisJobStream, RedisJobStream]:
    """An entry that `zombie` was given and `heir` has taken over, and both of them."""
    entry = await job_streams.add()
    zombie, heir = job_streams.consumer("zombie"), job_streams.consumer("heir")
    assert await zombie.read_new(1) == [entry]
    await job_streams.age(entry, 61.0, consumer="zombie")
    assert await heir.reclaim(1) == [entry]
    return entry, zombie, heir


async def test_an_acknowledged_entry_is_gone_from_the_group_and_from_the_stream(
    job_streams: JobStreams,
) -> None:
    entries = [await job_streams.add(attempt) for attempt in (0, 0, 1)]
    consumer = job_streams.consumer()
    await consumer.read_new(10)
    await consumer.read_new(10)

    assert await consumer.acknowledge_if_owner(entries) == 3
    assert await job_streams.entry_ids() == []
    assert await job_streams.pending() == {}


async def test_acknowledging_twice_does_nothing_the_second_time(job_streams: JobStreams) -> None:
    entry = await job_streams.add()
    consumer = job_streams.consumer()
    await consumer.read_new(1)
    assert await consumer.acknowledge_if_owner([entry]) == 1
    assert await consumer.acknowledge_if_owner([entry]) == 0


async def test_a_zombie_acknowledges_only_what_is_still_its_own(job_streams: JobStreams) -> None:
    entry, zombie, heir = await taken_over(job_streams)
    own = await job_streams.add()
    await zombie.read_new(1)

    assert await zombie.acknowledge_if_owner([entry, own]) == 1
    assert await job_streams.pending() == {entry.entry_id: "heir"}
    assert await job_streams.entry_ids() == [entry.entry_id]
    assert await heir.acknowledge_if_owner([entry]) == 1


async def test_an_entry_nobody_was_given_cannot_be_acknowledged(job_streams: JobStreams) -> None:
    entry = await job_streams.add()
    assert await job_streams.consumer().acknowledge_if_owner([entry]) == 0
    assert await job_streams.entry_ids() == [entry.entry_id]


async def test_a_renewal_makes_an_entry_young_and_is_no_delivery(job_streams: JobStreams) -> None:
    entries = [await job_streams.add(attempt) for attempt in (0, 1)]
    consumer = job_streams.consumer()
    await consumer.read_new(10)
    await consumer.read_new(10)
    for entry in entries:
        await job_streams.age(entry, 61.0)

    assert await job_streams.leases().renew_if_owner(entries) == 2
    for entry in entries:
        held = await job_streams.held(entry)
        assert held["time_since_delivered"] < 30_000
        assert held["times_delivered"] == 1
    assert await job_streams.consumer("two").reclaim(10) == []


async def test_a_zombies_renewal_does_not_steal_the_job_back(job_streams: JobStreams) -> None:
    entry, _, _ = await taken_over(job_streams)
    await job_streams.age(entry, 30.0, consumer="heir")

    assert await job_streams.leases("zombie").renew_if_owner([entry]) == 0
    assert await job_streams.pending() == {entry.entry_id: "heir"}
    assert (await job_streams.held(entry))["time_since_delivered"] >= 30_000


@pytest.mark.parametrize("min_idle", [60.0, 7_200.0])
async def test_a_released_entry_can_be_taken_over_at_once(
    job_streams: JobStreams, min_idle: float
) -> None:
    entries = [await job_streams.add(attempt) for attempt in (1, 0)]
    leaver = job_streams.consumer("leaver", min_idle=min_idle)
    heir = job_streams.consumer("heir", min_idle=min_idle)
    await leaver.read_new(10)
    await leaver.read_new(10)

    assert await leaver.release_if_owner(entries) == 2
    assert await heir.reclaim(10) == entries


async def test_a_release_is_no_delivery(job_streams: JobStreams) -> None:
    entry = await job_streams.add()
    consumer = job_streams.consumer()
    await consumer.read_new(1)

    assert await consumer.release_if_owner([entry]) == 1

    assert (await job_streams.held(entry))["times_delivered"] == 1


async def test_a_zombie_cannot_release_another_consumers_entry(job_streams: JobStreams) -> None:
    entry, zombie, _ = await taken_over(job_streams)
    assert await zombie.release_if_owner([entry]) == 0
    assert await job_streams.consumer("third").reclaim(10) == []
    assert await job_streams.pending() == {entry.entry_id: "heir"}


async def test_a_consumer_without_entries_leaves_and_one_with_entries_stays(
    job_streams: JobStreams,
) -> None:
    entry = await job_streams.add()
    consumer = job_streams.consumer()
    await consumer.read_new(1)

    await consumer.leave()
    assert await _consumers(job_streams) == {"one"}
    assert await job_streams.pending() == {entry.entry_id: "one"}

    await consumer.acknowledge_if_owner([entry])
    await consumer.leave()
    assert await _consumers(job_streams) == set()


async def test_no_entry_is_lost_however_reading_and_leaving_interleave(
    job_streams: JobStreams,
) -> None:
    consumer, same_name = job_streams.consumer(block=0.01), job_streams.consumer()
    added: list[Delivery] = []

    async def add() -> None:
        added.extend([await job_streams.add(number % 2) for number in range(100)])

    async def leave() -> None:
        for _ in range(100):
            await same_name.leave()

    async def read() -> list[Delivery]:
        return [each for _ in range(60) for each in await consumer.read_new(3)]

    _, _, found = await asyncio.gather(add(), leave(), read())
    while more := await consumer.read_new(100):
        found += more
    assert sorted(d.entry_id for d in found) == sorted(d.entry_id for d in added)
    assert await job_streams.pending() == dict.fromkeys([d.entry_id for d in added], "one")


async def test_without_streams_nothing_is_anybodys(job_streams: JobStreams) -> None:
    entry = await job_streams.add()
    consumer = job_streams.consumer()
    await consumer.read_new(1)
    await job_streams.commands.flushall()

    assert await consumer.acknowledge_if_owner([entry]) == 0
    assert await consumer.release_if_owner([entry]) == 0
    assert await job_streams.leases().renew_if_owner([entry]) == 0
    await consumer.leave()


async def test_a_refusal_is_not_taken_for_an_entry_of_somebody_else(
    job_streams: JobStreams,
) -> None:
    entry = await job_streams.add()
    consumer = job_streams.consumer()
    await consumer.read_new(1)
    allowed = await job_streams.commands.acl_getuser("default")
    await job_streams.commands.acl_setuser("default", enabled=True, commands=["-xpending"])
    try:
        for act in (
            consumer.acknowledge_if_owner([entry]),
            consumer.release_if_owner([entry]),
            job_streams.leases().renew_if_owner([entry]),
            consumer.leave(),
        ):
            with pytest.raises(ResponseError):
                await act
    finally:
        await job_streams.commands.acl_setuser("default", enabled=True, categories=["+@all"])
    assert await job_streams.commands.acl_getuser("default") == allowed
    assert await consumer.acknowledge_if_owner([entry]) == 1


async def _consumers(job_streams: JobStreams) -> set[str]:
    return {
        each["name"].decode()
        for each in await job_streams.commands.xinfo_consumers(keys.JOBS, keys.GROUP)
    }
