"""Appending and replaying events, in an in-process Redis."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from fakeredis import FakeAsyncRedis

from service.domain.events import BEGINNING, EventId, EventType
from service.domain.frames import parse_frame, render
from service.streams.event_log import RedisEventLog
from service.supervision import Background
from tests.fixtures.event_logs import an_event, fake_client

JOB = uuid4()


@pytest.fixture
async def client() -> FakeAsyncRedis:
    return fake_client()


@pytest.fixture
async def log(client: FakeAsyncRedis) -> AsyncIterator[RedisEventLog]:
    background = Background()
    yield RedisEventLog(client, background)
    await background.cancel()


async def append(log: RedisEventLog, attempt: int, *seqs: int) -> str:
    answer = await log.append(JOB, [an_event(JOB, attempt, seq) for seq in seqs], 60.0)
    return answer.verdict


async def ids(log: RedisEventLog, after: EventId = BEGINNING) -> list[str]:
    return [str(frame.id) for frame in await log.read_after(JOB, after, 1000)]


async def test_events_are_replayed_in_order_from_any_cursor(log: RedisEventLog) -> None:
    assert await append(log, 1, 1, 2, 3) == "appended"
    assert await append(log, 2, 1) == "appended"

    assert await ids(log) == ["1-1", "1-2", "1-3", "2-1"]
    assert await ids(log, EventId(1, 2)) == ["1-3", "2-1"]
    assert await ids(log, EventId(2, 1)) == []


async def test_appending_again_changes_nothing(log: RedisEventLog) -> None:
    await append(log, 1, 1, 2)
    assert await append(log, 1, 1, 2) == "appended"
    assert await append(log, 1, 2, 3) == "appended"

    assert await ids(log) == ["1-1", "1-2", "1-3"]


async def test_a_hole_is_refused_as_a_whole(log: RedisEventLog) -> None:
    await append(log, 1, 1)
    assert await append(log, 1, 3, 4) == "hole"
    assert await append(log, 2, 2) == "hole"

    assert await ids(log) == ["1-1"]


async def test_an_earlier_attempt_is_refused(log: RedisEventLog) -> None:
    await append(log, 2, 1)
    assert await append(log, 1, 1) == "fenced"

    assert await ids(log) == ["2-1"]


async def test_a_terminal_event_may_follow_a_hole(log: RedisEventLog) -> None:
    await append(log, 1, 1)
    answer = await log.append(JOB, [an_event(JOB, 1, 9, EventType.COMPLETE)], 60.0)

    assert answer.is_complete
    assert await ids(log) == ["1-1", "1-9"]


async def test_ids_compare_as_numbers(log: RedisEventLog) -> None:
    await append(log, 1, *range(1, 13))
    assert await ids(log, EventId(1, 9)) == ["1-10", "1-11", "1-12"]


async def test_ids_stay_fenced_after_trimming(log: RedisEventLog, client: FakeAsyncRedis) -> None:
    await append(log, 2, 1, 2)
    await client.xtrim(f"usa:events:{{{JOB}}}", maxlen=0, approximate=False)

    assert await append(log, 2, 2) == "appended"
    assert await append(log, 1, 1) == "fenced"
    assert await ids(log) == []


async def test_every_append_renews_the_streams_life(
    log: RedisEventLog, client: FakeAsyncRedis
) -> None:
    await append(log, 1, 1)
    first = await client.ttl(f"usa:events:{{{JOB}}}")
    await log.append(JOB, [an_event(JOB, 1, 2)], 600.0)

    assert 0 < first <= 60 < await client.ttl(f"usa:events:{{{JOB}}}") <= 600


async def test_last_ids_are_known_of_streams_that_exist(log: RedisEventLog) -> None:
    other = uuid4()
    await append(log, 1, 1, 2)

    assert await log.last_ids([JOB, other]) == {JOB: EventId(1, 2)}


async def test_an_erased_stream_is_empty_and_still_refuses_what_it_has_had(
    log: RedisEventLog,
) -> None:
    await append(log, 2, 1, 2)
    await log.erase(JOB)

    assert await ids(log) == []
    assert await append(log, 1, 3) == "fenced"
    await append(log, 3, 1)
    assert await ids(log) == ["3-1"]


async def test_a_sealed_stream_is_empty_and_refuses_everybody(
    log: RedisEventLog, client: FakeAsyncRedis
) -> None:
    for _ in range(2):
        await append(log, 1, 1)
        await log.seal(JOB, 60.0)
        assert await ids(log) == []
    assert await append(log, 2**31 - 1, 1) == "fenced"
    assert await ids(log) == []
    assert 0 < await client.ttl(f"usa:events:{{{JOB}}}") <= 60


async def test_nothing_is_there_to_be_erased_of_a_job_without_events(
    log: RedisEventLog, client: FakeAsyncRedis
) -> None:
    await log.erase(JOB)
    assert not await client.exists(f"usa:events:{{{JOB}}}")


async def test_foreign_entries_are_skipped(log: RedisEventLog, client: FakeAsyncRedis) -> None:
    await append(log, 1, 1)
    await client.xadd(f"usa:events:{{{JOB}}}", {"some": "thing"}, id="1-2")
    await append(log, 1, 3)

    assert await ids(log) == ["1-1", "1-3"]


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"data: {}\n\n",
        b"event: start\ndata: {}\n\n",
        b"id: x\nevent: start\ndata: {}\n\n",
        b"id: 1-1\nevent: start\ndata: {}\n\nid: 1-2\nevent: start\ndata: {}\n\n",
        b"id: 1-1\ndata: {}\nevent: start\n\n",
    ],
)
def test_what_is_no_frame_is_not_taken_for_one(wire: bytes) -> None:
    assert parse_frame(wire) is None


def test_a_frame_survives_the_wire() -> None:
    frame = render(an_event(JOB, 3, 14, EventType.ITERATION_PROGRESS))
    assert parse_frame(frame.wire) == frame
    assert frame.wire.startswith(b"id: 3-14\nevent: iteration:progress\ndata: {")
