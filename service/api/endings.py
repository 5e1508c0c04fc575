"""Waits for jobs to end: one statement per round for everybody who waits in this process."""

from asyncio import Future, get_running_loop, sleep, timeout
from collections import defaultdict
from typing import Final
from uuid import UUID

from aiohttp import web

from service.domain.errors import Unavailable
from service.ports.jobs import JobStore
from service.supervision import Background
from service.telemetry.logs import get_log
from service.telemetry.metrics import LOOP_FAILURES

_log = get_log(__name__)

_PAUSES_AFTER_FAILURE = 4


class Endings:
    """Looks at all awaited jobs together, every `pause` seconds and only while somebody waits."""

    def __init__(self, jobs: JobStore, background: Background, *, pause: float = 0.3) -> None:
        self._jobs = jobs
        self._background = background
        self._pause = pause
        self._waiting: defaultdict[UUID, set[Future[None]]] = defaultdict(set)
        self._is_looking = False
        self._is_closed = False

    async def wait(self, job_id: UUID, seconds: float) -> None:
        """Return when the job has ended, the time is up or the process stops."""
        if self._is_closed or seconds <= 0:
            return
        ended: Future[None] = get_running_loop().create_future()
        self._waiting[job_id].add(ended)
        if not self._is_looking:
            self._is_looking = True
            self._background.spawn("endings", self._look())
        try:
            async with timeout(seconds):
                await ended
        except TimeoutError:
            return
        finally:
            self._waiting[job_id].discard(ended)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def close(self) -> None:
        """Let everybody go, now and from now on."""
        self._is_closed = True
        self._release(list(self._waiting))

    async def _look(self) -> None:
        try:
            while self._waiting:  # noqa: ASYNC110 - each turn asks Postgres, nothing signals an end
                await sleep(await self._round())
        finally:
            self._is_looking = False

    async def _round(self) -> float:
        awaited = list(self._waiting)
        try:
            fences = await self._jobs.read_fences(awaited)
        except Unavailable as error:
            LOOP_FAILURES.labels(loop="endings").inc()
            _log.warning("loop_round_failed", loop="endings", error=str(error))
            return _PAUSES_AFTER_FAILURE * self._pause
        stands = {job_id: fence.status for job_id, fence in fences.items()}
        # A job that is gone (purged) has nothing left to wait for.
        over = [id_ for id_ in awaited if (s := stands.get(id_)) is None or s.is_terminal]
        self._release(over)
        return self._pause

    def _release(self, job_ids: list[UUID]) -> None:
        for job_id in job_ids:
            for ended in self._waiting.get(job_id, ()):
                if not ended.done():
                    ended.set_result(None)


ENDINGS: Final = web.AppKey("endings", Endings)
