"""Taking over entries of silent consumers: all of them, and only of silent ones."""

from collections.abc import Sequence
from typing import Any, cast

from service.domain.attempt import Delivery
from service.streams.connection import Client
from service.streams.job_stream import RedisJobStream
from tests.fixtures.factories import an_id
from tests.fixtures.streams import JobStreams


async def delivered(job_streams: JobStreams, count: int, *, attempt: int = 0) -> list[Delivery]:
    """Entries that the consumer `one` has read and not acknowledged."""
    added = [await job_streams.add(attempt) for _ in range(count)]
    assert await job_streams.consumer("one").read_new(count) == added
    return added


async def silence(job_streams: JobStreams, entries: Sequence[Delivery]) -> None:
    for entry in entries:
        await job_streams.age(entry, 61.0)


async def test_entries_of_a_silent_consumer_are_taken_over(job_streams: JobStreams) -> None:
    entries = await delivered(job_streams, 3)
    await silence(job_streams, entries)

    assert await job_streams.consumer("two").reclaim(10) == entries
    assert await job_streams.pending() == {entry.entry_id: "two" for entry in entries}


async def test_entries_of_a_living_consumer_are_left_alone(job_streams: JobStreams) -> None:
    (entry,) = await delivered(job_streams, 1)
    await job_streams.age(entry, 58.0)
    assert await job_streams.consumer("two").reclaim(10) == []
    assert await job_streams.pending() == {entry.entry_id: "one"}


async def test_a_taken_entry_is_not_taken_again(job_streams: JobStreams) -> None:
    await silence(job_streams, await delivered(job_streams, 1))
    assert len(await job_streams.consumer("two").reclaim(10)) == 1
    assert await job_streams.consumer("three").reclaim(10) == []


async def test_the_again_stream_is_scanned_first(job_streams: JobStreams) -> None:
    backlog = await delivered(job_streams, 1)
    again = await delivered(job_streams, 1, attempt=1)
    await silence(job_streams, [*backlog, *again])

    consumer = job_streams.consumer("two")
    assert await consumer.reclaim(1) == again
    assert await consumer.reclaim(1) == backlog


async def test_a_pass_goes_on_until_the_end_of_a_long_pending_list(
    job_streams: JobStreams,
) -> None:
    # One XAUTOCLAIM looks at ten entries per entry asked for.
    entries = await delivered(job_streams, 35)
    await silence(job_streams, [entries[-1]])
    assert await job_streams.consumer("two").reclaim(1) == [entries[-1]]


async def test_a_full_worker_stops_and_goes_on_where_it_stopped(job_streams: JobStreams) -> None:
    entries = await delivered(job_streams, 5)
    await silence(job_streams, entries)

    consumer = job_streams.consumer("two")
    assert await consumer.reclaim(2) == entries[:2]
    assert list((await job_streams.pending()).values()) == ["two"] * 2 + ["one"] * 3
    assert await consumer.reclaim(10) == entries[2:]


async def test_what_falls_silent_behind_the_cursor_is_found_in_a_later_pass(
    job_streams: JobStreams,
) -> None:
    entries = await delivered(job_streams, 30)
    await silence(job_streams, entries[20:])
    consumer = job_streams.consumer("two")
    assert await consumer.reclaim(5) == entries[20:25]
    await silence(job_streams, entries[:1])

    found = [each for _ in range(3) for each in await consumer.reclaim(5)]
    assert sorted(each.entry_id for each in found) == sorted(
        each.entry_id for each in (*entries[25:], entries[0])
    )


async def test_deleted_entries_are_dropped_and_hide_no_others(job_streams: JobStreams) -> None:
    entries = await delivered(job_streams, 4)
    await silence(job_streams, entries)
    for lost in entries[:3]:
        await job_streams.commands.xdel(lost.stream, lost.entry_id)

    assert await job_streams.consumer("two").reclaim(1) == [entries[3]]
    assert await job_streams.pending() == {entries[3].entry_id: "two"}


class AnsweringNil:
    """A client whose XAUTOCLAIM finds only entries that were deleted, as Redis 6.2 tells it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def xautoclaim(self, *_: Any, **__: Any) -> list[Any]:
        return [b"0-0", [(None, None)]]


async def test_deleted_entries_that_are_told_as_nil_are_acknowledged(
    job_streams: JobStreams,
) -> None:
    # After such an answer they are pending for whoever asked.
    (lost,) = await delivered(job_streams, 1)
    await job_streams.commands.xdel(lost.stream, lost.entry_id)
    client = cast("Client", AnsweringNil(job_streams.commands))
    consumer = RedisJobStream(
        client, job_streams.commands, consumer="one", block=0.2, min_idle=60.0
    )

    assert await consumer.reclaim(10) == []
    assert await job_streams.pending() == {}


async def test_an_entry_that_says_nothing_is_dropped_when_it_is_taken_over(
    job_streams: JobStreams,
) -> None:
    await job_streams.commands.xadd("{usa}:jobs", {"job": "garbage"})
    await job_streams.commands.xreadgroup("workers", "one", {"{usa}:jobs": ">"})
    (entry_id,) = await job_streams.entry_ids()
    await silence(job_streams, [Delivery("{usa}:jobs", entry_id, an_id())])

    assert await job_streams.consumer("two").reclaim(10) == []
    assert await job_streams.entry_ids() == []
    assert await job_streams.pending() == {}


async def test_without_streams_there_is_nothing_to_take_over_until_they_are_back(
    job_streams: JobStreams,
) -> None:
    consumer = job_streams.consumer("two")
    await silence(job_streams, await delivered(job_streams, 30))
    await consumer.reclaim(1)
    await job_streams.commands.flushall()
    assert await consumer.reclaim(10) == []

    entries = await delivered(job_streams, 1)
    await silence(job_streams, entries)
    assert await consumer.reclaim(10) == entries
