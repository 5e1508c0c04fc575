"""One client's place in one job's events, and what it gets next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic

from service.domain.errors import Unavailable
from service.domain.events import BEGINNING, EventId, Tail, final_event
from service.domain.frames import Frame, render
from service.domain.job import Job, JobStatus
from service.ports.attempts import Recorded
from service.ports.events import EventLog
from service.supervision import Wakeup
from service.telemetry.metrics import EVENT_DELIVERY_SECONDS, EVENTS_DELIVERED, SSE_RESYNCS

_PAGE = 200
_LONGEST_QUEUE = 500
_PAUSE_AFTER_FAILURE = 1.0


class Reader:
    """Pushed frames are taken while they follow one another; else the stream is read.

    Yields strictly increasing ids. History that neither has is replaced by a snapshot. Attempts
    between the reader's own and the row's do not count, nor does anything beyond the final event
    of an ended job.
    """

    def __init__(
        self,
        job: Job,
        cursor: EventId,
        events: EventLog,
        *,
        read_job: Callable[[], Awaitable[Job | None]],
        resync: Callable[[Job], Awaitable[Frame]],
    ) -> None:
        self.has_ended = False
        self._job_id = job.id
        self._events = events
        self._read_job = read_job
        self._resync = resync
        # Only here is the row certainly newer than the cursor; such a one was never given out.
        self._tail = Tail(BEGINNING if cursor.attempt > job.attempt else cursor)
        self._passed = BEGINNING
        self._newest_read = BEGINNING
        self._row_attempt = 0
        self._lowest_attempt = 0
        self._final: EventId | None = None
        self._pushed: deque[Frame] = deque()
        self._heard_at: float | None = None
        self._batch_heard_at: float | None = None
        self._is_behind = True
        self._wake = Wakeup()
        self._place(job.status, job.attempt, job.final_event_id)

    def push(self, frame: Frame) -> None:
        """Offer a frame that was just published."""
        if frame.id is None or self._is_behind:
            return
        last = self._pushed[-1].id if self._pushed else None
        tail = Tail(last or self._tail.cursor)
        if tail.is_old(frame.id):
            return
        # At a change of attempt the old one's last events may be missing without a gap.
        follows = frame.id.attempt == tail.cursor.attempt and tail.accepts(frame.id)
        if follows and len(self._pushed) < _LONGEST_QUEUE:
            self._heard_at = self._heard_at or monotonic()
            self._pushed.append(frame)
            self._wake()
        else:
            self.catch_up()

    def catch_up(self) -> None:
        """Read the stream next, because something may have been missed."""
        self._is_behind = True
        self._pushed.clear()
        self._heard_at = None
        self._wake()

    def learn(self, row: Recorded | None, last: EventId | None) -> None:
        """Take in where the job really stands, and how far its stream goes.

        Both may be older than what the reader has had since.
        """
        if row is None or row.status is None:
            self.end()
            return
        if row.attempt >= self._row_attempt:
            self._place(row.status, row.attempt, row.final_event_id)
        if self._final is not None or (last is not None and last > self._tail.cursor):
            self.catch_up()

    def written(self) -> None:
        """Take note that the last batch is on its way to the client."""
        if self._batch_heard_at is not None:
            EVENT_DELIVERY_SECONDS.observe(monotonic() - self._batch_heard_at)
            self._batch_heard_at = None

    def end(self) -> None:
        """Yield nothing any more."""
        self.has_ended = True
        self._wake()

    def _place(self, status: JobStatus, attempt: int, final_event_id: str | None) -> None:
        self._row_attempt = attempt
        self._final = EventId.parse(final_event_id or "")
        self._lowest_attempt = 0 if status.is_terminal else attempt

    async def next_batch(self, within: float) -> list[Frame]:
        """Return the next frames, or none after `within` seconds or at the end."""
        while not self.has_ended:
            source = "read" if self._is_behind else "published"
            batch = await self._read_stream() if self._is_behind else self._take_pushed()
            if batch is None:
                return []
            if batch or self.has_ended:
                EVENTS_DELIVERED.labels(source=source).inc(len(batch))
                return batch
            if not self._is_behind and not await self._wake.wait(within):
                return []
        return []

    def _take_pushed(self) -> list[Frame]:
        frames = list(self._pushed)
        self._pushed.clear()
        self._batch_heard_at, self._heard_at = self._heard_at, None
        batch: list[Frame] = []
        for frame in frames:
            if frame.id is not None and not self._is_outdated(frame.id):
                self._deliver(frame, frame.id, batch)
        return batch

    async def _read_stream(self) -> list[Frame] | None:
        self._is_behind = False
        batch: list[Frame] = []
        try:
            await self._replay(batch)
        except Unavailable:
            self._is_behind = True
            if not batch:
                await asyncio.sleep(_PAUSE_AFTER_FAILURE)
                return None
        return batch

    async def _replay(self, batch: list[Frame]) -> None:
        """Add what comes next to the batch; what is in it counts, even if this raises."""
        frames = await self._page()
        for frame in frames:
            await self._take(frame, batch)
        if len(frames) == _PAGE:
            self._is_behind = True
        elif self._final is not None and not self.has_ended:
            await self._finish_from_row(batch)

    async def _page(self) -> list[Frame]:
        after = max(self._tail.cursor, self._passed)
        try:
            frames = await self._events.read_after(self._job_id, after, _PAGE)
        except Unavailable:
            if self._final is None:
                raise
            return []  # the job has ended, so Postgres has all there is to tell
        self._newest_read = (frames[-1].id if frames else None) or self._newest_read
        return [frame for frame in frames if not self._is_beyond_the_end(frame.id)]

    def _is_beyond_the_end(self, event_id: EventId | None) -> bool:
        return event_id is not None and self._final is not None and event_id > self._final

    async def _take(self, frame: Frame, batch: list[Frame]) -> None:
        if frame.id is None or self.has_ended:
            return
        if self._is_outdated(frame.id):
            # Else a whole page of such frames would be read for ever.
            self._passed = frame.id
            return
        if not self._tail.accepts(frame.id):
            await self._replace_history(batch)
        self._deliver(frame, frame.id, batch)

    def _is_outdated(self, event_id: EventId) -> bool:
        # What follows in an attempt that was being told is the rest of it.
        is_the_rest = event_id.attempt == self._tail.cursor.attempt
        is_below = event_id.attempt < self._lowest_attempt and not is_the_rest
        return is_below or self._tail.is_old(event_id)

    def _deliver(self, frame: Frame, event_id: EventId, batch: list[Frame]) -> None:
        if self.has_ended or self._is_beyond_the_end(event_id):
            return
        self._tail.advance(event_id)
        is_end = frame.is_terminal and self._is_the_end(event_id)
        if is_end or not frame.is_terminal:  # an earlier generation's end is not this one's
            batch.append(frame)
        self.has_ended = is_end

    def _is_the_end(self, event_id: EventId) -> bool:
        """Whether a terminal event is this generation's: nothing is known of a later one."""
        if self._final is not None:
            return event_id == self._final
        return event_id.attempt >= max(self._lowest_attempt, self._newest_read.attempt)

    async def _replace_history(self, batch: list[Frame]) -> Job | None:
        job = await self._read_job()
        if job is None:
            self.end()
            return None
        batch.append(await self._resync(job))
        SSE_RESYNCS.inc()
        return job

    async def _finish_from_row(self, batch: list[Frame]) -> None:
        """Tell the end of a job whose stream does not: it expired, was lost, or lags behind."""
        job = await self._replace_history(batch)
        if job is None:
            return
        self._place(job.status, job.attempt, job.final_event_id)
        event = final_event(job)
        if event is None:  # it was redriven a moment ago
            self.catch_up()
        elif self._tail.is_old(event.id):
            self.end()
        else:
            self._deliver(render(event), event.id, batch)
