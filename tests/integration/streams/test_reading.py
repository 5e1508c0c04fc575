"""Reading entries: nothing is skipped, nothing that cannot be read blocks what can."""

import asyncio
from time import monotonic
from typing import Any

import pytest

from service.streams import keys
from service.streams.job_stream import RedisEntryWriter, ensure_group
from tests.fixtures.factories import an_id
from tests.fixtures.streams import BOTH, JobStreams
from tests.fixtures.waiting import eventually

LONG = 20.0


async def test_a_group_made_late_and_by_many_begins_with_the_first_entry(
    job_streams: JobStreams,
) -> None:
    await job_streams.commands.flushall()
    added = [await job_streams.add(attempt) for attempt in (0, 1)]

    await asyncio.gather(*(ensure_group(job_streams.commands) for _ in range(20)))
    consumer = job_streams.consumer()
    assert [*await consumer.read_new(10), *await consumer.read_new(10)] == added[::-1]

    await ensure_group(job_streams.commands)
    assert await consumer.read_new(10) == []


async def test_the_again_stream_is_read_before_the_backlog(job_streams: JobStreams) -> None:
    first, second = await job_streams.add(0), await job_streams.add(0)
    again = await job_streams.add(1)
    consumer = job_streams.consumer()

    assert await consumer.read_new(10) == [again]
    assert await consumer.read_new(1) == [first]
    assert await consumer.read_new(10) == [second]


async def test_entries_of_both_streams_that_wake_one_wait_are_both_read_again_first(
    job_streams: JobStreams,
) -> None:
    consumer = job_streams.consumer(block=2.0)
    reading = asyncio.create_task(consumer.read_new(1))
    await eventually(job_streams.somebody_waits)

    async with job_streams.commands.pipeline(transaction=True) as both:
        for stream in (keys.JOBS, keys.AGAIN):
            both.xadd(stream, {"job": str(an_id())})
        await both.execute()

    async with asyncio.timeout(LONG):
        answers = [await reading]
        while sum(map(len, answers)) < 2:
            answers.append(await consumer.read_new(1))
    # Redis 6.2 answers with the stream that woke it, all others with both.
    for answer in answers:
        assert answer == sorted(answer, key=lambda each: BOTH.index(each.stream))
    assert {each.stream for answer in answers for each in answer} == set(BOTH)


async def test_an_empty_wait_ends_on_time(job_streams: JobStreams) -> None:
    consumer = job_streams.consumer(block=0.3)
    started = monotonic()
    assert await consumer.read_new(3) == []
    assert 0.25 <= monotonic() - started < 2


async def test_no_wait_is_so_short_that_it_lasts_for_ever(job_streams: JobStreams) -> None:
    consumer = job_streams.consumer(block=0.0001)
    assert await consumer.read_new(3) == []


async def test_what_was_delivered_and_not_acknowledged_can_be_read_again(
    job_streams: JobStreams,
) -> None:
    jobs, again = await job_streams.add(0), await job_streams.add(1)
    one, other = job_streams.consumer("one"), job_streams.consumer("other")
    assert await one.read_new(10) == [again]
    assert await one.read_new(10) == [jobs]
    foreign = await job_streams.add(0)
    assert await other.read_new(10) == [foreign]
    unread = await job_streams.add(0)

    assert await one.read_own_pending() == [again, jobs]
    assert await one.read_own_pending() == [again, jobs]
    await one.acknowledge_if_owner([jobs])
    assert await one.read_own_pending() == [again]
    assert await one.read_new(10) == [unread]


async def test_a_queue_is_read_whole_however_long_it_grew(job_streams: JobStreams) -> None:
    added = [await job_streams.add() for _ in range(200)]

    assert await job_streams.consumer().read_new(1000) == added


async def test_any_number_of_own_entries_is_read_again(job_streams: JobStreams) -> None:
    async with job_streams.commands.pipeline(transaction=False) as adding:
        for _ in range(2_050):
            adding.xadd(keys.JOBS, {"job": str(an_id())})
        await adding.execute()
    consumer = job_streams.consumer()
    delivered = await consumer.read_new(5_000)
    assert len(delivered) == 2_050

    assert await consumer.read_own_pending() == delivered


async def test_a_pending_entry_that_was_deleted_is_dropped_for_good(
    job_streams: JobStreams,
) -> None:
    kept, lost = await job_streams.add(0), await job_streams.add(0)
    consumer = job_streams.consumer()
    await consumer.read_new(10)
    await job_streams.commands.xdel(lost.stream, lost.entry_id)

    assert await consumer.read_own_pending() == [kept]
    assert await job_streams.pending() == {kept.entry_id: "one"}


@pytest.mark.parametrize(
    "fields",
    [
        {"job": "not an id"},
        {"job": b"\xff\xfe"},
        {"job": ""},
        {"story": "As a user"},
        {b"\xff": b"\xff"},
    ],
)
@pytest.mark.parametrize("stream", BOTH)
async def test_an_entry_that_says_nothing_is_dropped_and_its_neighbours_are_not(
    job_streams: JobStreams, stream: str, fields: dict[Any, Any]
) -> None:
    attempt = int(stream == keys.AGAIN)
    before = await job_streams.add(attempt)
    await job_streams.commands.xadd(stream, fields)
    after = await job_streams.add(attempt)

    consumer = job_streams.consumer()
    assert await consumer.read_new(10) == [before, after]
    assert await job_streams.entry_ids() == [before.entry_id, after.entry_id]
    assert set(await job_streams.pending()) == {before.entry_id, after.entry_id}


async def test_a_trace_travels_with_its_entry(job_streams: JobStreams) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    added = await job_streams.entries.add_entry(an_id(), 0, trace)
    assert added.trace_parent == trace
    assert await job_streams.consumer().read_new(10) == [added]


async def test_a_trace_of_garbage_does_not_cost_the_job(job_streams: JobStreams) -> None:
    job_id = an_id()
    await job_streams.commands.xadd(keys.JOBS, {"job": str(job_id), "trace": b"\xff\x00"})
    consumer = job_streams.consumer()
    assert [each.job_id for each in await consumer.read_new(10)] == [job_id]
    assert [each.job_id for each in await consumer.read_own_pending()] == [job_id]


@pytest.mark.parametrize(("attempt", "stream"), [(0, keys.JOBS), (1, keys.AGAIN), (9, keys.AGAIN)])
async def test_first_starts_go_to_the_backlog_and_all_others_before_it(
    job_streams: JobStreams, attempt: int, stream: str
) -> None:
    writer = RedisEntryWriter(job_streams.commands)
    job_id = an_id()
    added = await writer.add_entry(job_id, attempt, None)
    assert (added.stream, added.job_id) == (stream, job_id)
    assert await job_streams.commands.xrange(stream) == [
        (added.entry_id.encode(), {b"job": str(job_id).encode()})
    ]
