"""A job that goes through everything that can happen, and one client that follows it."""

from dataclasses import replace

from service.domain.events import BEGINNING, EventId, JobEvent
from service.domain.frames import render
from service.domain.job import JobStatus
from service.ports.attempts import Recorded
from tests.fixtures.event_logs import an_event
from tests.unit.api.reading import Bench, fence_of


class Play:
    """A job whose stream, messages and clients go through everything that can happen."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.reader = bench.reader()
        self.attempt, self.seq = 1, 0
        self.written: list[JobEvent] = []
        self.written_before: list[JobEvent] = []
        self.looked: tuple[Recorded, EventId | None] = (fence_of(bench.row), None)

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
        self.looked = (fence_of(self.bench.row), last.get(self.bench.row.id))

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
        self.reader.learn(fence_of(self.bench.row), final.id)
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
