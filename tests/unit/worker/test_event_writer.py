"""Events of one attempt: numbered without holes, whatever Redis does meanwhile."""

from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from fakeredis import FakeAsyncRedis

from service.domain.events import BEGINNING, EventId, EventType, JobEvent
from service.domain.frames import Frame
from service.supervision import Background
from service.worker import event_writer
from service.worker.event_writer import EventWriter
from tests.fixtures.event_logs import FailingEventLog, a_log, an_event, fake_client
from tests.fixtures.waiting import eventually

JOB = uuid4()
RETENTION = 60.0


@pytest.fixture
async def client() -> FakeAsyncRedis:
    return fake_client()


@pytest.fixture
def log(client: FakeAsyncRedis, background: Background) -> FailingEventLog:
    return a_log(client, background)


def a_writer(log: FailingEventLog, background: Background, **given: Any) -> EventWriter:
    options: dict[str, Any] = {"attempt": 1, "listener": lambda _: None} | given
    return EventWriter(
        JOB, options["attempt"], log, background, ttl=600.0, retention=RETENTION,
        listener=options["listener"],
    )  # fmt: skip


def progress(*items: str, phase: str = "draft") -> dict[str, Any]:
    patches = [{"op": "add", "text": item} for item in items]
    return {"iteration": "security", "phase": phase, "patches": patches}


async def ids(log: FailingEventLog) -> list[str]:
    return [str(frame.id) for frame in await frames(log)]


async def frames(log: FailingEventLog, job_id: UUID = JOB) -> list[Frame]:
    return await log.real.read_after(job_id, BEGINNING, 10_000)


async def test_events_are_numbered_in_the_order_in_which_they_were_emitted(
    log: FailingEventLog, background: Background
) -> None:
    writer = a_writer(log, background)
    for number in range(5):
        writer.emit(EventType.ITERATION_START, {"iteration": f"i{number}"})

    assert await writer.flush(2.0)

    found = await frames(log)
    assert [str(frame.id) for frame in found] == ["1-1", "1-2", "1-3", "1-4", "1-5"]
    assert [orjson.loads(frame.data)["iteration"] for frame in found] == [
        f"i{number}" for number in range(5)
    ]


async def test_progress_that_was_not_sent_yet_is_merged_and_loses_no_patch(
    log: FailingEventLog, background: Background
) -> None:
    writer = a_writer(log, background)
    writer.emit(EventType.ITERATION_START, {"iteration": "security"})
    for item in "abcdef":
        writer.emit(EventType.ITERATION_PROGRESS, progress(item))
    writer.emit(EventType.ITERATION_PROGRESS, progress(phase="verify"))

    assert await writer.flush(2.0)

    found = [orjson.loads(frame.data) for frame in await frames(log)]
    assert [each["type"] for each in found].count("iteration:progress") == 2
    assert [patch["text"] for patch in found[1]["patches"]] == list("abcdef")


async def test_events_reach_redis_without_anybody_waiting_for_them(
    log: FailingEventLog, background: Background
) -> None:
    writer = a_writer(log, background)
    writer.emit(EventType.START, {})

    assert await eventually(lambda: ids(log)) == ["1-1"]


async def test_what_is_ready_together_is_appended_by_one_call(
    log: FailingEventLog, background: Background
) -> None:
    writer = a_writer(log, background)
    for number in range(5):
        writer.emit(EventType.ITERATION_START, {"iteration": f"i{number}"})

    assert await writer.flush(2.0)

    assert log.appended == [[EventId(1, seq) for seq in range(1, 6)]]


async def test_a_lost_reply_is_repeated_with_the_same_ids(
    log: FailingEventLog, background: Background
) -> None:
    log.fail_after = 2
    writer = a_writer(log, background)
    writer.emit(EventType.START, {})
    await eventually(lambda: len(log.appended) >= 3)
    writer.emit(EventType.ITERATION_START, {"iteration": "a"})

    assert await writer.flush(5.0)

    assert await ids(log) == ["1-1", "1-2"]
    assert log.appended[:3] == [[EventId(1, 1)]] * 3


async def test_redis_gets_the_whole_attempt_again_after_it_lost_the_stream(
    log: FailingEventLog, background: Background, client: FakeAsyncRedis
) -> None:
    writer = a_writer(log, background)
    for number in range(3):
        writer.emit(EventType.ITERATION_START, {"iteration": f"i{number}"})
    await eventually(lambda: ids(log))
    await client.flushall()
    writer.emit(EventType.ITERATION_START, {"iteration": "after"})

    assert await writer.flush(5.0)

    assert await ids(log) == ["1-1", "1-2", "1-3", "1-4"]


async def test_more_events_than_one_script_call_takes_are_all_sent(
    log: FailingEventLog, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_writer, "_CHUNK", 7)
    writer = a_writer(log, background)
    for number in range(40):
        writer.emit(EventType.ITERATION_START, {"iteration": f"i{number}"})

    assert await writer.flush(5.0)

    assert await ids(log) == [f"1-{seq}" for seq in range(1, 41)]


async def test_the_final_event_follows_everything_and_shortens_the_streams_life(
    log: FailingEventLog, background: Background, client: FakeAsyncRedis
) -> None:
    writer = a_writer(log, background)
    writer.emit(EventType.START, {})
    writer.emit(EventType.ITERATION_START, {"iteration": "a"})
    final = writer.reserve_final()

    assert final == EventId(1, 3)
    assert await writer.finish(an_event(JOB, 1, 3, EventType.COMPLETE))
    assert await ids(log) == ["1-1", "1-2", "1-3"]
    assert 0 < await client.ttl(f"usa:events:{{{JOB}}}") <= RETENTION


async def test_nothing_is_queued_after_the_final_id_is_reserved(
    log: FailingEventLog, background: Background
) -> None:
    writer = a_writer(log, background)
    final = writer.reserve_final()
    writer.emit(EventType.ITERATION_START, {"iteration": "late"})

    assert await writer.finish(an_event(JOB, 1, final.seq, EventType.COMPLETE))

    assert [frame.type for frame in await frames(log)] == ["complete"]


async def test_an_ending_does_not_wait_long_for_redis(
    log: FailingEventLog, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_writer, "_FINISH_PATIENCE", 0.1)
    log.fail_before = 1_000_000
    writer = a_writer(log, background)
    writer.emit(EventType.START, {})
    final = writer.reserve_final()

    assert not await writer.finish(an_event(JOB, 1, final.seq, EventType.COMPLETE))
    assert await ids(log) == []
    await eventually(lambda: len(background) == 0, what="the pump gives up with its attempt")


async def test_a_later_attempt_silences_the_writer(
    log: FailingEventLog, background: Background
) -> None:
    await log.real.append(JOB, [an_event(JOB, 2, 1)], 600.0)
    writer = a_writer(log, background)
    writer.emit(EventType.START, {})

    assert not await writer.flush(2.0)
    assert await ids(log) == ["2-1"]


async def test_a_muted_writer_appends_nothing_until_it_may(
    log: FailingEventLog, background: Background
) -> None:
    writer = a_writer(log, background)
    writer.mute()
    writer.emit(EventType.START, {})
    await eventually(lambda: len(background) == 0)
    assert await ids(log) == []

    writer.unmute()

    assert await eventually(lambda: ids(log)) == ["1-1"]


async def test_an_attempt_that_tells_too_much_loses_progress_and_nothing_else(
    log: FailingEventLog, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_writer, "_MOST_EVENTS", 2)
    writer = a_writer(log, background)
    writer.emit(EventType.START, {})
    writer.emit(EventType.ITERATION_START, {"iteration": "a"})
    await eventually(lambda: ids(log))
    writer.emit(EventType.ITERATION_PROGRESS, progress("dropped"))
    writer.emit(EventType.ITERATION_COMPLETE, {"iteration": "a"})

    assert await writer.flush(2.0)

    assert [frame.type for frame in await frames(log)] == [
        "start",
        "iteration:start",
        "iteration:complete",
    ]
    # Numbered after something was dropped, they are contiguous all the same.
    sent = [event_id for batch in log.appended for event_id in batch]
    assert sent == [EventId(1, seq) for seq in (1, 2, 3)]


async def test_a_listener_hears_each_event_once_and_may_fail(
    log: FailingEventLog, background: Background
) -> None:
    heard: list[EventId] = []

    def listener(event: JobEvent) -> None:
        heard.append(event.id)
        raise RuntimeError("not our business")

    log.fail_after = 1
    writer = a_writer(log, background, listener=listener)
    writer.emit(EventType.START, {})
    writer.emit(EventType.ITERATION_START, {"iteration": "a"})

    assert await writer.flush(5.0)
    assert heard == [EventId(1, 1), EventId(1, 2)]
