"""Live event streams: one subscription for the whole process, one reader per client."""

from asyncio import Lock
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Final
from uuid import UUID

from service.api.reader import Reader
from service.api.snapshots import Snapshots
from service.domain.errors import Unavailable
from service.domain.events import EventId
from service.domain.job import Job
from service.ports.events import EventFeed, EventLog
from service.ports.jobs import JobStore
from service.telemetry.logs import get_log

_log = get_log(__name__)

CHECK_EVERY: Final = 1.0

IsGone = Callable[[], bool]


@dataclass(slots=True)
class _Watch:
    """The readers of one job here, and whether each one's client is gone.

    `known_at` is when it was last heard of or looked at.
    """

    readers: dict[Reader, IsGone] = field(default_factory=dict)
    known_at: float = field(default_factory=monotonic)
    entering: Lock = field(default_factory=Lock)
    is_subscribed: bool = False


class TailHub:
    """Hands every published frame to the readers of its job.

    `silence` is how long, in seconds, a watched job may say nothing before its row and its
    stream are looked at. `check_silence` does that, and is to be called every `CHECK_EVERY`
    seconds: a lost message delays a reader by no more than both.
    """

    def __init__(
        self,
        events: EventLog,
        feed: EventFeed,
        jobs: JobStore,
        snapshots: Snapshots,
        *,
        silence: float = 3.0,
    ) -> None:
        self._events = events
        self._feed = feed
        self._jobs = jobs
        self._snapshots = snapshots
        self._silence = silence
        self._watches: dict[UUID, _Watch] = {}
        self._is_closed = False

    async def run(self) -> None:
        """Hear frames until this task is cancelled."""
        async for heard in self._feed.frames():
            if heard is None:
                self._catch_up()
                continue
            job_id, frame = heard
            watch = self._watches.get(job_id)
            if watch is None:
                continue
            watch.known_at = monotonic()
            for reader in watch.readers:
                reader.push(frame)

    def _catch_up(self) -> None:
        for watch in self._watches.values():
            for reader in watch.readers:
                reader.catch_up()

    @asynccontextmanager
    async def read(
        self,
        job: Job,
        cursor: EventId,
        *,
        tenant_id: str,
        user_id: str | None,
        is_gone: IsGone,
    ) -> AsyncIterator[Reader]:
        """Open a reader after `cursor`; tenant and user are those who may see the job.

        It ends within moments once its client `is_gone`.
        """
        reader = Reader(
            job,
            cursor,
            self._events,
            read_job=lambda: self._jobs.get_owned(job.id, tenant_id, user_id),
            resync=self._snapshots.resync,
        )
        if self._is_closed:
            reader.end()
        watch = self._watches.setdefault(job.id, _Watch())
        watch.readers[reader] = is_gone
        try:
            await self._subscribe(job.id, watch)
            yield reader
        finally:
            del watch.readers[reader]
            if not watch.readers:
                del self._watches[job.id]
                await self._feed.unsubscribe(job.id)

    async def _subscribe(self, job_id: UUID, watch: _Watch) -> None:
        """Return when frames can be heard, whoever came first and may have left since."""
        async with watch.entering:
            if not watch.is_subscribed:
                # Without Redis the feed subscribes when it has reconnected, and all catch up.
                with suppress(Unavailable):
                    await self._feed.subscribe(job_id)
                watch.is_subscribed = True

    async def check_silence(self) -> None:
        """Look at all jobs that have said nothing for a while, in one statement.

        Ends the readers of clients that have left, too: until something is written to them,
        nothing else would.
        """
        self._end_abandoned()
        now = monotonic()
        silent = [
            job_id
            for job_id, watch in self._watches.items()
            if now - watch.known_at >= self._silence
        ]
        if not silent:
            return
        rows = await self._jobs.read_fences(silent)
        try:
            last = await self._events.last_ids(silent)
        except Unavailable as error:
            _log.warning("silence_unexplained", jobs=len(silent), error=str(error))
            last = {}
        for job_id in silent:
            watch = self._watches.get(job_id)
            if watch is None:
                continue
            watch.known_at = now
            for reader in watch.readers:
                reader.learn(rows.get(job_id), last.get(job_id))

    def _end_abandoned(self) -> None:
        for watch in self._watches.values():
            for reader, is_gone in watch.readers.items():
                if is_gone():
                    reader.end()

    async def close(self) -> None:
        """End all readers, now and from now on; their clients go on at another replica."""
        self._is_closed = True
        for watch in self._watches.values():
            for reader in watch.readers:
                reader.end()
