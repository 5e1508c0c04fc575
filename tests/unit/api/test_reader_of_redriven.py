"""A job that failed and was redriven has one story, and its readers get that one to its end."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api import reader as reader_module
from service.domain.events import BEGINNING, EventId, EventType, JobEvent, redriven_event
from service.domain.frames import render
from service.domain.job import Job, JobStatus
from tests.fixtures.event_logs import an_event
from tests.unit.api.play import Play
from tests.unit.api.reading import Bench, completed, fence_of, open_bench, silent_gaps


def failed(job: Job, final: str) -> Job:
    """The row after its job has failed."""
    return replace(job, status=JobStatus.FAILED, final_event_id=final, error={"code": "X"})


def redriven(job: Job) -> Job:
    """The row of a failed job after its redrive."""
    again = replace(job, status=JobStatus.QUEUED, attempt=job.attempt + 1)
    return replace(again, final_event_id=None, error=None)


def claimed(job: Job) -> Job:
    """The row of a queued job after its claim."""
    return replace(job, status=JobStatus.PROCESSING, attempt=job.attempt + 1)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_bench() as opened:
        yield opened


async def fail(bench: Bench) -> EventId:
    """Two events and the end of a first generation."""
    await bench.write(1, 1, 2)
    await bench.append(an_event(bench.row.id, 1, 3, EventType.ERROR))
    bench.row = failed(bench.row, "1-3")
    return EventId(1, 3)


async def redrive(bench: Bench, *, told: bool = True) -> None:
    """Queue the job again; the process that does it may die before it tells."""
    bench.row = redriven(bench.row)
    if told:
        await bench.log.real.redrive(bench.row.id, redriven_event(bench.row), 600.0)


async def run_to_the_end(bench: Bench) -> None:
    """The next attempt writes its events and completes the job."""
    bench.row = claimed(bench.row)
    attempt = bench.row.attempt
    await bench.write(attempt, 1)
    bench.row = completed(bench.row, f"{attempt}-2")
    await bench.append(bench.final_frame())


async def test_who_saw_the_error_gets_the_new_generation_to_its_end(bench: Bench) -> None:
    cursor = await fail(bench)
    first = bench.reader()
    assert await bench.read(first) == ["1-1", "1-2", "1-3"]
    assert first.has_ended

    await redrive(bench)
    await run_to_the_end(bench)

    assert await bench.read(bench.reader(cursor)) == ["2-1", "3-1", "3-2"]
    ends = [frame.type for frame in bench.got if frame.is_terminal]
    assert ends == ["error", "complete"]


@pytest.mark.parametrize("seen", [BEGINNING, EventId(1, 1), EventId(1, 2), EventId(1, 3)])
@pytest.mark.parametrize("told", [True, False])
async def test_who_comes_after_the_redrive_is_not_told_the_error_before_it(
    bench: Bench, seen: EventId, told: bool
) -> None:
    await fail(bench)
    await redrive(bench, told=told)
    reader = bench.reader(seen)

    await bench.read(reader)
    assert not reader.has_ended

    await run_to_the_end(bench)
    reader.learn(fence_of(bench.row), EventId(3, 2))

    await bench.read(reader)
    assert [frame.type for frame in bench.got if frame.is_terminal] == ["complete"]
    assert reader.has_ended


async def test_the_new_generations_end_does_not_bring_back_the_error(bench: Bench) -> None:
    await fail(bench)
    await redrive(bench, told=False)
    await run_to_the_end(bench)

    assert await bench.read(bench.reader()) == ["1-1", "1-2", "3-1", "3-2"]


async def test_a_watcher_who_missed_the_error_is_told_of_the_redrive_instead(
    bench: Bench,
) -> None:
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    await bench.write(1, 2)
    await bench.append(an_event(bench.row.id, 1, 3, EventType.ERROR))
    bench.row = failed(bench.row, "1-3")

    await redrive(bench)
    reader.push(render(redriven_event(bench.row)))

    assert await bench.read(reader) == ["2-1"]
    assert not reader.has_ended


async def test_a_watcher_who_missed_the_error_and_the_redrive_goes_on_with_what_follows(
    bench: Bench,
) -> None:
    await bench.write(1, 1)
    reader = bench.reader()
    await bench.read(reader)
    await bench.write(1, 2)
    await bench.append(an_event(bench.row.id, 1, 3, EventType.ERROR))
    bench.row = failed(bench.row, "1-3")
    await redrive(bench, told=False)
    bench.row = claimed(bench.row)
    await bench.write(3, 1)

    reader.push(render(an_event(bench.row.id, 3, 1)))

    assert await bench.read(reader) == ["1-2", "3-1"]
    assert not reader.has_ended


async def test_a_reader_of_the_failed_row_goes_on_when_it_is_redriven_meanwhile(
    bench: Bench,
) -> None:
    await fail(bench)
    reader = bench.reader()

    await redrive(bench)

    assert await bench.read(reader) == ["resync", "2-1"]
    assert not reader.has_ended


async def test_a_stale_look_at_the_failed_row_does_not_end_a_reader(bench: Bench) -> None:
    await fail(bench)
    before = fence_of(bench.row)
    await redrive(bench)
    reader = bench.reader(EventId(1, 3))
    assert await bench.read(reader) == ["2-1"]

    reader.learn(before, EventId(1, 3))

    assert await bench.read(reader) == []
    assert not reader.has_ended
    await run_to_the_end(bench)
    reader.push(render(an_event(bench.row.id, 3, 1)))
    assert await bench.read(reader) == ["3-1", "3-2"]


async def test_a_look_from_before_the_redrive_does_not_bring_the_error_back(bench: Bench) -> None:
    await bench.write(1, 1)
    before = fence_of(bench.row)
    await bench.append(an_event(bench.row.id, 1, 2, EventType.ERROR))
    bench.row = failed(bench.row, "1-2")
    await redrive(bench, told=False)
    reader = bench.reader(EventId(1, 1))

    reader.learn(before, EventId(1, 1))

    assert await bench.read(reader) == []
    assert not reader.has_ended


async def test_an_error_that_maintenance_tells_late_ends_nobody(bench: Bench) -> None:
    await fail(bench)
    late = an_event(bench.row.id, 1, 3, EventType.ERROR)
    await redrive(bench)
    await bench.client.flushall()
    reader = bench.reader(EventId(1, 2))
    await bench.read(reader)

    await bench.append(late)
    reader.push(render(late))

    assert await bench.read(reader) == []
    assert not reader.has_ended


async def test_after_a_loss_of_all_events_the_end_comes_from_the_row(bench: Bench) -> None:
    cursor = await fail(bench)
    await redrive(bench)
    await run_to_the_end(bench)
    await bench.client.flushall()

    assert await bench.read(bench.reader(cursor)) == ["resync", "3-2"]
    assert bench.got[-1].type == "complete"


async def test_a_second_failure_is_an_end_of_its_own(bench: Bench) -> None:
    cursor = await fail(bench)
    await redrive(bench)
    bench.row = claimed(bench.row)
    await bench.write(3, 1)
    await bench.append(an_event(bench.row.id, 3, 2, EventType.ERROR))
    bench.row = failed(bench.row, "3-2")
    reader = bench.reader(cursor)

    assert await bench.read(reader) == ["2-1", "3-1", "3-2"]
    assert reader.has_ended


class Generations(Play):
    """A job that may fail and be redriven at any time, and a client that always comes back."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.owed: JobEvent | None = None
        self.past_ends: list[EventId] = []
        self.opened_at = bench.row.attempt

    @property
    def is_failed(self) -> bool:
        return self.bench.row.status is JobStatus.FAILED

    async def event(self, *, heard: int = 1) -> None:
        if not self.is_failed:
            await self._claim()
            await super().event(heard=heard)

    async def next_attempt(self) -> None:
        if not self.is_failed:
            await self._claim()
            await super().next_attempt()

    async def _claim(self) -> None:
        if self.bench.row.status is JobStatus.QUEUED:
            self.bench.row = replace(self.bench.row, status=JobStatus.PROCESSING)
            await super().next_attempt()

    async def fails(self, *, written: bool = True, heard: bool = True) -> None:
        if self.is_failed:
            return
        await self._claim()
        self.seq += 1
        end = EventId(self.attempt, self.seq)
        self.owed = an_event(self.bench.row.id, end.attempt, end.seq, EventType.ERROR)
        self.past_ends.append(end)
        self.bench.row = failed(self.bench.row, str(end))
        if written:
            await self.write(self.owed)
        if written and heard:
            self.reader.push(render(self.owed))

    async def fails_unheard(self) -> None:
        await self.fails(heard=False)

    async def fails_untold(self) -> None:
        await self.fails(written=False)

    async def maintenance_tells_the_end(self) -> None:
        """Whoever found that it is owed may be slow."""
        if self.owed is not None:
            answer = await self.bench.log.real.append(self.bench.row.id, [self.owed], 600.0)
            if answer.is_complete:
                self.reader.push(render(self.owed))

    async def is_redriven(self, *, told: bool = True, heard: bool = True) -> None:
        if not self.is_failed:
            return
        self.bench.row = redriven(self.bench.row)
        self.attempt, self.seq = self.bench.row.attempt, 0
        event = redriven_event(self.bench.row)
        self.written = [event]
        if told:
            await self.bench.log.real.redrive(self.bench.row.id, event, 600.0)
        if told and heard:
            self.reader.push(render(event))

    async def is_redriven_unheard(self) -> None:
        await self.is_redriven(heard=False)

    async def is_redriven_untold(self) -> None:
        await self.is_redriven(told=False)

    async def another_replica(self) -> None:
        """The connection is cut, and what was on its way is lost."""
        self._open()

    def _open(self) -> None:
        row, cursor = self.bench.row, self.told[-1] if self.told else BEGINNING
        final = EventId.parse(row.final_event_id or "")
        if row.status.is_terminal and final is not None and cursor >= final:
            return  # 204
        self.opened_at = final.attempt if final is not None else row.attempt
        self.reader = self.bench.reader(cursor)

    async def read(self) -> None:
        before = len(self.bench.got)
        await super().read()
        ends = [frame.id for frame in self.bench.got[before:] if frame.is_terminal]
        assert all(end is not None and end.attempt >= self.opened_at for end in ends)
        if self.reader.has_ended:
            self._open()

    async def complete(self) -> EventId:
        await self.is_redriven()
        await self._claim()
        await self.bench.complete(self.attempt, self.seq + 1)
        final = self.bench.final_frame()
        await self.write(final)
        self.reader.learn(fence_of(self.bench.row), final.id)
        while self.told[-1:] != [final.id]:
            await self.read()
        return final.id


STEPS = (
    Generations.event,
    Generations.lost_message,
    Generations.next_attempt,
    Generations.zombie,
    Generations.flushall,
    Generations.reconnect,
    Generations.look,
    Generations.take_in,
    Generations.postgres_away,
    Generations.another_replica,
    Generations.read,
    Generations.fails,
    Generations.fails_unheard,
    Generations.fails_untold,
    Generations.maintenance_tells_the_end,
    Generations.is_redriven,
    Generations.is_redriven_unheard,
    Generations.is_redriven_untold,
)


@pytest.fixture(scope="module")
def tiny_reader() -> Iterator[None]:
    """A page is full, and a pause is over, before an example has become long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "_PAGE", 3)
        patch.setattr(reader_module, "_PAUSE_AFTER_FAILURE", 0.0)
        yield


@pytest.mark.usefixtures("tiny_reader")
@given(steps=st.lists(st.sampled_from(STEPS), min_size=12, max_size=40))
async def test_whatever_happens_each_generation_has_at_most_one_end_and_the_last_has_its_own(
    steps: list[Callable[[Generations], Awaitable[None]]],
) -> None:
    async with open_bench() as bench:
        play = Generations(bench)
        for step in steps:
            await step(play)
        final = await play.complete()

    ends = [frame.id for frame in bench.got if frame.is_terminal]
    assert play.told == sorted(set(play.told))
    assert play.told[-1] == ends[-1] == final
    assert ends[:-1] == [end for end in play.past_ends if end in ends]
    assert not silent_gaps(bench.got)
