"""One client's place in a job's events: increasing ids, no silent gap, exactly one end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from fakeredis import FakeAsyncRedis
from hypothesis import given
from hypothesis import strategies as st

from service.api import reader as reader_module
from service.api.reader import Reader
from service.domain.errors import Unavailable
from service.domain.events import BEGINNING, EventId, EventType, JobEvent, Tail
from service.domain.frames import Frame, render, render_snapshot
from service.domain.job import Job, JobStatus, Owner
from service.ports import Recorded
from service.supervision import Background
from tests.fixtures.event_logs import FailingEventLog, a_log, an_event, fake_client

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def a_job(job_id: UUID, attempt: int = 1, status: JobStatus = JobStatus.PROCESSING) -> Job:
    return Job(
        id=job_id,
        owner=Owner("t", "u"),
        agent="noop",
        mode="individual",
        story="x",
        iterations=(),
        status=status,
        attempt=attempt,
        created_at=NOW,
        available_at=NOW,
        deadline_at=NOW + timedelta(hours=1),
    )


def completed(job: Job, final: str) -> Job:
    return replace(job, status=JobStatus.COMPLETED, final_event_id=final, result={"x": 1})


@dataclass
class Bench:
    """A row, a stream and a reader over both."""

    log: FailingEventLog
    client: FakeAsyncRedis
    row: Job
    row_fails: int = 0
    resyncs: int = 0
    got: list[Frame] = field(default_factory=list)

    async def append(self, *events: JobEvent) -> None:
        await self.log.real.append(self.row.id, events, 600.0)

    async def write(self, attempt: int, *seqs: int) -> None:
        await self.append(*(an_event(self.row.id, attempt, seq) for seq in seqs))

    async def complete(self, attempt: int, seq: int) -> None:
        self.row = completed(self.row, f"{attempt}-{seq}")

    def final_frame(self) -> JobEvent:
        place = EventId.parse(self.row.final_event_id or "")
        assert place is not None
        return an_event(self.row.id, place.attempt, place.seq, EventType.COMPLETE)

    def reader(self, after: EventId = BEGINNING) -> Reader:
        return Reader(
            self.row, after, self.log, read_job=self._read_job, resync=self._resync
        )  # fmt: skip

    async def _read_job(self) -> Job | None:
        if self.row_fails:
            self.row_fails -= 1
            raise Unavailable("Postgres")
        return self.row

    async def _resync(self, job: Job) -> Frame:
        self.resyncs += 1
        return render_snapshot(EventType.RESYNC, {"status": job.status.value})

    async def read(self, reader: Reader, within: float = 0.02) -> list[str]:
        """Read until nothing more comes; ids as text, and names of what has none."""
        found: list[Frame] = []
        while batch := await reader.next_batch(within):
            found += batch
        self.got += found
        return [str(frame.id) if frame.id else frame.type for frame in found]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    background = Background()
    client = fake_client()
    yield Bench(a_log(client, background), client, a_job(uuid4()))
    await background.cancel()


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

    reader.learn(_fence(bench.row), EventId(1, 1))

    assert await bench.read(reader) == ["resync", "1-2"]


async def test_a_silent_reader_learns_of_events_it_missed(bench: Bench) -> None:
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    await bench.write(1, 2)

    reader.learn(_fence(bench.row), EventId(1, 2))

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
    before = _fence(bench.row)
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

    reader.learn(_fence(bench.row), EventId(1, 2))

    assert await bench.read(reader) == ["1-2"]


async def test_a_reader_of_an_end_that_was_taken_back_goes_on(bench: Bench) -> None:
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    ended = replace(bench.row, status=JobStatus.FAILED, final_event_id="1-2", error={})
    bench.row = replace(bench.row, status=JobStatus.QUEUED, attempt=2)
    await bench.write(2, 1)

    reader.learn(_fence(ended), EventId(2, 1))

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


def _fence(job: Job) -> Recorded:
    return Recorded(
        applied=False, status=job.status, attempt=job.attempt, final_event_id=job.final_event_id
    )


class Play:
    """A job whose stream, messages and clients go through everything that can happen."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.reader = bench.reader()
        self.attempt, self.seq = 1, 0
        self.written: list[JobEvent] = []
        self.written_before: list[JobEvent] = []
        self.looked: tuple[Recorded, EventId | None] = (_fence(bench.row), None)

    @property
    def told(self) -> list[EventId]:
        return [frame.id for frame in self.bench.got if frame.id is not None]

    async def event(self, *, heard: int = 1) -> None:
        self.seq += 1
        event = an_event(self.bench.row.id, self.attempt, self.seq)
        await self.write(event)
        for _ in range(heard):
            self.reader.push(render(event))

    async def lost_message(self) -> None:
        await self.event(heard=0)

    async def repeated_message(self) -> None:
        await self.event(heard=2)

    async def next_attempt(self) -> None:
        self.attempt, self.seq = self.attempt + 1, 0
        self.written, self.written_before = [], self.written
        self.bench.row = replace(self.bench.row, attempt=self.attempt)

    async def zombie(self) -> None:
        """The worker before this one does not know yet."""
        if self.written_before:
            last = self.written_before[-1].id
            event = an_event(self.bench.row.id, last.attempt, last.seq + 1)
            if await self.write(event, self.written_before):
                self.reader.push(render(event))

    async def flushall(self) -> None:
        await self.bench.client.flushall()

    async def reconnect(self) -> None:
        self.reader.catch_up()

    async def look(self) -> None:
        """Ask Postgres and Redis where the job stands; the answers may be taken in later."""
        last = await self.bench.log.real.last_ids([self.bench.row.id])
        self.looked = (_fence(self.bench.row), last.get(self.bench.row.id))

    async def take_in(self) -> None:
        self.reader.learn(*self.looked)

    async def postgres_away(self) -> None:
        self.bench.row_fails = 1

    async def another_replica(self) -> None:
        await self.read()
        self.reader = self.bench.reader(self.told[-1] if self.told else BEGINNING)

    async def read(self) -> None:
        await self.bench.read(self.reader, 0.0)

    async def end(self, *, cancelled: bool) -> EventId:
        if cancelled:
            end = f"{self.attempt + 1}-1"
            self.bench.row = replace(
                self.bench.row,
                attempt=self.attempt + 1,
                status=JobStatus.CANCELLED,
                final_event_id=end,
            )
            self.written = []
        else:
            await self.bench.complete(self.attempt, self.seq + 1)
        final = self.bench.final_frame()
        await self.write(final)
        self.reader.learn(_fence(self.bench.row), final.id)
        while not self.reader.has_ended:
            await self.read()
        return final.id

    async def write(self, event: JobEvent, written: list[JobEvent] | None = None) -> bool:
        """Append, after a loss everything of the attempt; whether it is in the stream."""
        written = self.written if written is None else written
        written.append(event)
        log, job_id = self.bench.log.real, self.bench.row.id
        answer = await log.append(job_id, [event], 600.0)
        if answer.has_hole:
            answer = await log.append(job_id, written, 600.0)
        return answer.is_complete


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
    background = Background()
    client = fake_client()
    play = Play(Bench(a_log(client, background), client, a_job(uuid4())))

    for step in steps:
        await step(play)
    final = await play.end(cancelled=cancelled)
    await background.cancel()

    assert play.told == sorted(set(play.told))
    assert [frame.is_terminal for frame in play.bench.got].count(True) == 1
    assert play.bench.got[-1].is_terminal
    assert play.told[-1] == final
    assert play.reader.has_ended
    assert not silent_gaps(play.bench.got)


def silent_gaps(frames: Sequence[Frame]) -> list[EventId]:
    """The ids before which something is missing that no snapshot stands for."""
    gaps = []
    tail: Tail | None = Tail()
    for frame in frames:
        if frame.id is None:
            tail = None
            continue
        if tail is not None and not tail.accepts(frame.id):
            gaps.append(frame.id)
        tail = Tail(frame.id)
    return gaps
