"""Live event streams: one subscription for the whole process, one reader per client."""

from asyncio import Future, get_running_loop
from collections.abc import AsyncIterator
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
from service.ports import EventFeed, EventLog, JobStore
from service.telemetry.logs import get_log

_log = get_log(__name__)

SILENCE: Final = 3.0


@dataclass(slots=True)
class _Watch:
    """The readers of one job here; `subscribed` is done when frames can be heard."""

    subscribed: Future[None]
    heard_at: float = field(default_factory=monotonic)
    readers: set[Reader] = field(default_factory=set)


class TailHub:
    """Hands every published frame to the readers of its job.

    `silence` is how long, in seconds, a watched job may say nothing before its row and its
    stream are looked at: a lost message delays a reader by no more than that.
    """

    def __init__(
        self,
        events: EventLog,
        feed: EventFeed,
        jobs: JobStore,
        snapshots: Snapshots,
        *,
        silence: float = SILENCE,
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
            watch.heard_at = monotonic()
            for reader in watch.readers:
                reader.push(frame)

    def _catch_up(self) -> None:
        for watch in self._watches.values():
            for reader in watch.readers:
                reader.catch_up()

    @asynccontextmanager
    async def read(
        self, job: Job, cursor: EventId, *, tenant_id: str, user_id: str | None
    ) -> AsyncIterator[Reader]:
        """Open a reader after `cursor`; tenant and user are those who may see the job."""
        reader = Reader(
            job,
            cursor,
            self._events,
            read_job=lambda: self._jobs.get_owned(job.id, tenant_id, user_id),
            resync=self._snapshots.resync,
        )
        if self._is_closed:
            reader.end()
        watch = self._watches.get(job.id)
        is_first = watch is None
        if watch is None:
            watch = self._watches[job.id] = _Watch(get_running_loop().create_future())
        watch.readers.add(reader)
        try:
            if is_first:
                await self._subscribe(job.id, watch)
            else:
                await watch.subscribed
            yield reader
        finally:
            watch.readers.discard(reader)
            if not watch.readers:
                del self._watches[job.id]
                await self._feed.unsubscribe(job.id)

    async def _subscribe(self, job_id: UUID, watch: _Watch) -> None:
        # Without Redis the feed subscribes when it has reconnected, and everybody catches up.
        try:
            with suppress(Unavailable):
                await self._feed.subscribe(job_id)
        finally:
            watch.subscribed.set_result(None)

    async def check_silence(self) -> None:
        """Look at all jobs that have said nothing for a while, in one statement."""
        now = monotonic()
        silent = [
            job_id
            for job_id, watch in self._watches.items()
            if now - watch.heard_at >= self._silence
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
            for reader in list(watch.readers) if watch else ():
                reader.learn(rows.get(job_id), last.get(job_id))

    async def close(self) -> None:
        """End all readers, now and from now on; their clients go on at another replica."""
        self._is_closed = True
        for watch in self._watches.values():
            for reader in watch.readers:
                reader.end()
