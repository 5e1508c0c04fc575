"""A row, a stream and readers over both, in memory."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from fakeredis import FakeAsyncRedis

from service.api.reader import Reader
from service.domain.errors import Unavailable
from service.domain.events import BEGINNING, EventId, EventType, JobEvent, Tail
from service.domain.frames import Frame, render_snapshot
from service.domain.job import Job, JobStatus, Owner
from service.ports.attempts import Recorded
from service.supervision import Background
from tests.fixtures.event_logs import FailingEventLog, a_log, an_event, fake_client

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def a_job(job_id: UUID, attempt: int = 1, status: JobStatus = JobStatus.PROCESSING) -> Job:
    """A row."""
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
    """The row after its job has completed."""
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


@asynccontextmanager
async def open_bench() -> AsyncIterator[Bench]:
    """A bench with a job that its first attempt runs, and nothing told yet."""
    background, client = Background(), fake_client()
    yield Bench(a_log(client, background), client, a_job(uuid4()))
    await background.cancel()


def fence_of(job: Job) -> Recorded:
    """Where the row stands."""
    return Recorded(
        applied=False, status=job.status, attempt=job.attempt, final_event_id=job.final_event_id
    )


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
