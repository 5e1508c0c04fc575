"""One client's place in a job's events: increasing ids, no silent gap, exactly one end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api import reader as reader_module
from service.domain.events import EventId, EventType
from service.domain.frames import render
from service.domain.job import JobStatus
from service.telemetry.metrics import REGISTRY
from tests.fixtures.event_logs import an_event
from tests.unit.api.play import Play
from tests.unit.api.reading import Bench, completed, fence_of, open_bench, silent_gaps


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_bench() as opened:
        yield opened


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_PAGE", 4)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_PAUSE_AFTER_FAILURE", 0.0)


async def test_history_comes_first_and_pushed_frames_follow(bench: Bench) -> None:
    await bench.write(1, 1, 2)
    reader = bench.reader()
    assert await bench.read(reader) == ["1-1", "1-2"]

    reader.push(render(an_event(bench.row.id, 1, 3)))

    assert await bench.read(reader) == ["1-3"]


def delivered(source: str) -> int:
    labels = {"source": source}
    return int(REGISTRY.get_sample_value("usa_events_delivered_total", labels) or 0)


async def test_what_is_read_and_what_was_published_is_counted_apart(bench: Bench) -> None:
    before = [delivered(source) for source in ("read", "published")]
    await bench.write(1, 1, 2)
    reader = bench.reader()
    await bench.read(reader)
    reader.push(render(an_event(bench.row.id, 1, 3)))
    await bench.read(reader)

    after = [delivered(source) for source in ("read", "published")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 1]


def deliveries() -> int:
    return int(REGISTRY.get_sample_value("usa_event_delivery_seconds_count") or 0)


async def test_the_delivery_of_what_was_pushed_is_measured_once_and_replay_is_not(
    bench: Bench,
) -> None:
    await bench.write(1, 1, 2)
    reader, before = bench.reader(), deliveries()
    await bench.read(reader)
    reader.written()
    replayed = deliveries()
    for seq in (3, 4):
        reader.push(render(an_event(bench.row.id, 1, seq)))
    assert len(await reader.next_batch(0.0)) == 2
    unwritten = deliveries()
    reader.written()
    reader.written()

    assert (replayed, unwritten, deliveries()) == (before, before, before + 1)


async def test_a_reader_goes_on_after_its_cursor(bench: Bench) -> None:
    await bench.write(1, 1, 2, 3)
    assert await bench.read(bench.reader(EventId(1, 2))) == ["1-3"]


async def test_a_lost_message_is_filled_from_the_stream(bench: Bench) -> None:
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    await bench.write(1, 2, 3)

    reader.push(render(an_event(bench.row.id, 1, 3)))

    assert await bench.read(reader) == ["1-2", "1-3"]


async def test_a_repeated_message_is_told_once(bench: Bench) -> None:
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    for _ in range(3):
        reader.push(render(an_event(bench.row.id, 1, 2)))

    assert await bench.read(reader) == ["1-2"]


async def test_the_last_events_of_an_attempt_are_not_skipped_when_the_next_one_begins(
    bench: Bench,
) -> None:
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    await bench.write(1, 2)
    await bench.write(2, 1)

    reader.push(render(an_event(bench.row.id, 2, 1)))

    assert await bench.read(reader) == ["1-2", "2-1"]


async def test_attempts_below_the_rows_do_not_count(bench: Bench) -> None:
    await bench.write(1, 1, 2)
    await bench.write(2, 1)
    bench.row = replace(bench.row, attempt=2)

    assert await bench.read(bench.reader()) == ["2-1"]


async def test_history_that_was_trimmed_becomes_a_snapshot(bench: Bench) -> None:
    await bench.write(1, 1, 2, 3, 4)
    await bench.client.xtrim(f"usa:events:{{{bench.row.id}}}", minid="1-3", approximate=False)

    assert await bench.read(bench.reader()) == ["resync", "1-3", "1-4"]


async def test_an_ended_jobs_stream_ends_with_its_final_event(bench: Bench) -> None:
    await bench.write(1, 1)
    await bench.complete(1, 2)
    await bench.append(bench.final_frame())
    reader = bench.reader()

    assert await bench.read(reader) == ["1-1", "1-2"]
    assert reader.has_ended


async def test_the_end_comes_from_the_row_when_the_stream_is_gone(bench: Bench) -> None:
    await bench.complete(1, 7)
    reader = bench.reader()

    assert await bench.read(reader) == ["resync", "1-7"]
    assert bench.got[-1].type == "complete"
    assert reader.has_ended


async def test_the_end_comes_from_the_row_while_redis_is_away(bench: Bench) -> None:
    await bench.complete(1, 7)
    bench.log.fail_before = 1

    assert await bench.read(bench.reader()) == ["resync", "1-7"]


async def test_what_a_zombie_wrote_beyond_the_end_is_ignored(bench: Bench) -> None:
    await bench.write(1, 1, 2, 3)
    await bench.write(3, 1)
    bench.row = replace(
        bench.row, attempt=2, status=JobStatus.CANCELLED, final_event_id="2-1"
    )  # fmt: skip

    assert await bench.read(bench.reader()) == ["1-1", "1-2", "1-3", "resync", "2-1"]


async def test_a_silent_reader_learns_of_the_end_from_the_row(bench: Bench) -> None:
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    await bench.complete(1, 2)

    reader.learn(fence_of(bench.row), EventId(1, 1))

    assert await bench.read(reader) == ["resync", "1-2"]


async def test_a_silent_reader_learns_of_events_it_missed(bench: Bench) -> None:
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    await bench.write(1, 2)

    reader.learn(fence_of(bench.row), EventId(1, 2))

    assert await bench.read(reader) == ["1-2"]


async def test_a_job_that_is_gone_ends_its_readers(bench: Bench) -> None:
    reader = bench.reader()
    reader.learn(None, None)
    assert await bench.read(reader) == []
    assert reader.has_ended


async def test_a_cursor_that_was_never_given_out_starts_from_the_beginning(bench: Bench) -> None:
    await bench.write(1, 1)
    assert await bench.read(bench.reader(EventId(9, 9))) == ["1-1"]


@pytest.mark.usefixtures("no_pause")
async def test_a_reader_that_cannot_read_says_nothing_and_tries_again(bench: Bench) -> None:
    await bench.write(1, 1)
    bench.log.fail_before = 1
    reader = bench.reader()

    assert await reader.next_batch(0.0) == []
    assert await bench.read(reader) == ["1-1"]


async def test_a_reader_that_falls_behind_reads_the_stream_instead_of_queueing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_LONGEST_QUEUE", 3)
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    await bench.write(1, *range(2, 12))
    for seq in range(2, 12):
        reader.push(render(an_event(bench.row.id, 1, seq)))

    assert await bench.read(reader) == [f"1-{seq}" for seq in range(2, 12)]


@pytest.mark.usefixtures("small_pages")
async def test_a_long_history_is_read_page_by_page(bench: Bench) -> None:
    await bench.write(1, *range(1, 14))

    assert await bench.read(bench.reader()) == [f"1-{seq}" for seq in range(1, 14)]


@pytest.mark.usefixtures("small_pages")
async def test_outdated_events_by_the_page_do_not_hold_a_reader_up(bench: Bench) -> None:
    await bench.write(1, *range(1, 14))
    await bench.write(2, 1)
    bench.row = replace(bench.row, attempt=2)

    async with asyncio.timeout(2):
        assert await bench.read(bench.reader()) == ["2-1"]


@pytest.mark.usefixtures("small_pages")
async def test_events_beyond_the_end_by_the_page_do_not_hold_a_reader_up(bench: Bench) -> None:
    await bench.write(3, *range(1, 14))
    bench.row = replace(bench.row, attempt=2, status=JobStatus.CANCELLED, final_event_id="2-1")

    async with asyncio.timeout(2):
        assert await bench.read(bench.reader()) == ["resync", "2-1"]


async def test_a_row_from_before_what_was_told_tells_nothing_twice(bench: Bench) -> None:
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    before = fence_of(bench.row)
    await bench.write(2, 1, 2)
    bench.row = replace(bench.row, attempt=2)
    reader.push(render(an_event(bench.row.id, 2, 2)))
    assert await bench.read(reader) == ["2-1", "2-2"]

    reader.learn(before, EventId(2, 2))

    assert await bench.read(reader) == []


async def test_the_rest_of_an_attempt_that_was_being_told_is_not_left_out(bench: Bench) -> None:
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    await bench.write(1, 2)
    bench.row = replace(bench.row, attempt=2)

    reader.learn(fence_of(bench.row), EventId(1, 2))

    assert await bench.read(reader) == ["1-2"]


async def test_a_reader_of_an_end_that_was_taken_back_goes_on(bench: Bench) -> None:
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    ended = replace(bench.row, status=JobStatus.FAILED, final_event_id="1-2", error={})
    bench.row = replace(bench.row, status=JobStatus.QUEUED, attempt=2)
    await bench.write(2, 1)

    reader.learn(fence_of(ended), EventId(2, 1))

    assert await bench.read(reader) == ["resync", "2-1"]
    assert not reader.has_ended


@pytest.mark.usefixtures("no_pause")
async def test_what_was_read_before_postgres_went_away_is_told(bench: Bench) -> None:
    await bench.write(1, 1, 2)
    await bench.append(an_event(bench.row.id, 1, 5, EventType.COMPLETE))
    bench.row = completed(bench.row, "1-5")
    bench.row_fails = 1

    assert await bench.read(bench.reader()) == ["1-1", "1-2", "resync", "1-5"]


@pytest.mark.usefixtures("no_pause")
async def test_an_end_that_comes_while_postgres_is_away_hides_nothing_before_it(
    bench: Bench,
) -> None:
    await bench.write(1, 1, 2)
    await bench.complete(1, 3)
    reader = bench.reader()
    bench.row_fails = 1
    first = await reader.next_batch(0.0)

    await bench.append(bench.final_frame())

    assert [str(frame.id) for frame in first] == ["1-1", "1-2"]
    assert await bench.read(reader) == ["1-3"]


STEPS = (
    Play.event,
    Play.lost_message,
    Play.repeated_message,
    Play.next_attempt,
    Play.zombie,
    Play.flushall,
    Play.reconnect,
    Play.look,
    Play.take_in,
    Play.postgres_away,
    Play.another_replica,
    Play.read,
)


@pytest.fixture(scope="module")
def tiny_reader() -> Iterator[None]:
    """A page is full, and a pause is over, before an example has become long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "_PAGE", 3)
        patch.setattr(reader_module, "_PAUSE_AFTER_FAILURE", 0.0)
        yield


@pytest.mark.usefixtures("tiny_reader")
@given(steps=st.lists(st.sampled_from(STEPS), max_size=40), cancelled=st.booleans())
async def test_whatever_is_lost_ids_increase_and_exactly_one_end_comes_last(
    steps: list[Callable[[Play], Awaitable[None]]],
    cancelled: bool,
) -> None:
    async with open_bench() as bench:
        play = Play(bench)
        for step in steps:
            await step(play)
        final = await play.end(cancelled=cancelled)

    assert play.told == sorted(set(play.told))
    assert [frame.is_terminal for frame in play.bench.got].count(True) == 1
    assert play.bench.got[-1].is_terminal
    assert play.told[-1] == final
    assert play.reader.has_ended
    assert not silent_gaps(play.bench.got)
