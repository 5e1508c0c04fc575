"""What the group's bookkeeping says about recorded entries."""

import pytest

from service.domain.errors import Unavailable
from service.ports.upkeep import StreamState
from service.streams import keys
from service.streams.pending import RedisPending, parse_entry_id
from tests.fixtures.streams import BOTH, JobStreams


@pytest.fixture
def pending(job_streams: JobStreams) -> RedisPending:
    return RedisPending(job_streams.commands)


async def test_a_loss_is_told_once(job_streams: JobStreams, pending: RedisPending) -> None:
    assert await pending.ensure_streams()
    assert not await pending.ensure_streams()
    await job_streams.commands.flushall()
    assert await pending.ensure_streams()
    assert not await pending.ensure_streams()


async def test_a_loss_is_told_even_if_a_reader_has_recreated_the_streams_before(
    job_streams: JobStreams, pending: RedisPending
) -> None:
    await pending.ensure_streams()
    await job_streams.commands.flushall()
    assert await job_streams.consumer().read_new(1) == []
    assert await job_streams.commands.exists(*BOTH) == 2

    assert await pending.ensure_streams()


async def test_streams_are_described_by_how_far_they_were_read_and_what_they_hold(
    job_streams: JobStreams, pending: RedisPending
) -> None:
    assert await pending.state(0) == StreamState((0, 0), None)
    entries = await job_streams.add(), await job_streams.add()
    first, second = (parse_entry_id(each.entry_id) for each in entries)
    again = parse_entry_id((await job_streams.add(1)).entry_id)
    assert await pending.state(0) == StreamState((0, 0), (first, second))

    consumer = job_streams.consumer()
    await consumer.read_new(1)
    assert await pending.state(0) == StreamState((0, 0), (first, second))
    assert await pending.state(7) == StreamState(again, (again, again))
    await consumer.read_new(2)
    await consumer.acknowledge_if_owner(entries[:1])
    assert await pending.state(0) == StreamState(second, (second, second))
    await consumer.acknowledge_if_owner(entries[1:])
    assert await pending.state(0) == StreamState(second, None)


async def test_lost_streams_are_described_as_empty_and_unread(
    job_streams: JobStreams, pending: RedisPending
) -> None:
    await job_streams.add()
    await job_streams.consumer().read_new(1)
    await job_streams.commands.flushall()
    assert await pending.state(0) == StreamState((0, 0), None)

    entry = parse_entry_id((await job_streams.add()).entry_id)
    await job_streams.commands.xgroup_create(keys.JOBS, "somebody else's")
    assert await pending.state(0) == StreamState((0, 0), (entry, entry))


async def test_an_entry_is_still_to_come_from_its_addition_to_its_delivery(
    job_streams: JobStreams, pending: RedisPending
) -> None:
    read, deleted, waiting = [await job_streams.add() for _ in range(3)]
    again = await job_streams.add(1)
    # Each stream numbers for itself, so two entries of one millisecond may have the same id.
    while again.entry_id == waiting.entry_id:
        again = await job_streams.add(1)
    await job_streams.consumer().read_new(10)
    await job_streams.consumer().read_new(1)
    await job_streams.commands.xdel(deleted.stream, deleted.entry_id)

    ids = [each.entry_id for each in (read, deleted, waiting, again)]
    assert await pending.undelivered(0, ids) == [False, False, True, False]
    assert await pending.undelivered(0, ["", "garbage", "1-1", waiting.entry_id]) == [
        False,
        False,
        False,
        True,
    ]
    await job_streams.commands.flushall()
    assert await pending.undelivered(0, ids) == [False] * 4


async def test_an_entry_is_held_from_its_delivery_to_its_acknowledgement(
    job_streams: JobStreams, pending: RedisPending
) -> None:
    entry, again = await job_streams.add(0), await job_streams.add(1)
    recorded = [(0, entry.entry_id), (1, again.entry_id)]
    consumer = job_streams.consumer()
    assert await pending.not_pending(recorded) == [True, True]

    await consumer.read_new(1)
    assert await pending.not_pending(recorded) == [True, False]
    await consumer.read_new(1)
    assert await pending.not_pending(recorded) == [False, False]
    assert await pending.not_pending(recorded[::-1]) == [False, False]

    await consumer.acknowledge_if_owner([entry])
    assert await pending.not_pending(recorded) == [True, False]


async def test_what_cannot_be_an_entry_is_nobodys_and_disturbs_no_other(
    job_streams: JobStreams, pending: RedisPending
) -> None:
    entry = await job_streams.add()
    await job_streams.consumer().read_new(1)
    recorded = [(0, ""), (0, "garbage"), (0, entry.entry_id), (0, "1-1")]
    assert await pending.not_pending(recorded) == [True, True, False, True]


async def test_nothing_asked_is_nothing_answered(pending: RedisPending) -> None:
    assert await pending.not_pending([]) == []


async def test_after_a_loss_nobody_holds_anything(
    job_streams: JobStreams, pending: RedisPending
) -> None:
    entry = await job_streams.add()
    await job_streams.consumer().read_new(1)
    await job_streams.commands.flushall()
    assert await pending.not_pending([(0, entry.entry_id), (1, entry.entry_id)]) == [True, True]


async def test_a_server_that_knows_nothing_answers_nothing(
    job_streams: JobStreams, pending: RedisPending
) -> None:
    entry = await job_streams.add()
    await job_streams.consumer().read_new(1)
    await job_streams.commands.config_set("replica-serve-stale-data", "no")
    await job_streams.commands.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(Unavailable):
            await pending.not_pending([(0, entry.entry_id)])
        with pytest.raises(Unavailable):
            await pending.state(0)
        with pytest.raises(Unavailable):
            await pending.undelivered(0, [entry.entry_id])
    finally:
        await job_streams.commands.replicaof("no", "one")
        await job_streams.commands.config_set("replica-serve-stale-data", "yes")
