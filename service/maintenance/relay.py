"""Gives queued jobs their stream entries: the rest of the queue waits in Postgres, fairly."""

import asyncio
from collections.abc import Sequence

from service.domain.attempt import Fence
from service.domain.errors import Unavailable
from service.ports.attempts import AttemptStore
from service.ports.queue import EntryWriter
from service.ports.upkeep import DueJob, UpkeepStore
from service.telemetry.logs import get_log
from service.telemetry.metrics import LOST_MARKS, RELAYED

_log = get_log(__name__)

_BATCH = 100


class Relay:
    """Runs in every process; `user_in_stream` bounds one user's undelivered entries (0: none)."""

    def __init__(
        self,
        upkeep: UpkeepStore,
        attempts: AttemptStore,
        entries: EntryWriter,
        *,
        user_in_stream: int,
    ) -> None:
        self._upkeep = upkeep
        self._attempts = attempts
        self._entries = entries
        self._user_in_stream = user_in_stream

    async def run_once(self) -> int:
        """Add entries until no job is due; returns how many. Raises `Unavailable`."""
        added = 0
        while True:
            due = await self._upkeep.take_relay_batch(self._user_in_stream, _BATCH)
            added += await self._ring(due)
            if len(due) < _BATCH:
                return added

    async def _ring(self, due: Sequence[DueJob]) -> int:
        """Add one entry each, in order; what Redis does not take is due again in seconds."""
        added: list[tuple[Fence, str]] = []
        try:
            for job in due:
                entry = await self._entries.add_entry(
                    job.fence.job_id, job.fence.attempt, job.trace_parent
                )
                added.append((job.fence, entry.entry_id))
        finally:
            RELAYED.inc(len(added))
            await asyncio.gather(*(self._mark(fence, entry_id) for fence, entry_id in added))
        return len(added)

    async def _mark(self, fence: Fence, entry_id: str) -> None:
        try:
            await self._attempts.mark_entry(fence, entry_id)
        except Unavailable as error:
            # The relay will add a second entry, which does no harm.
            LOST_MARKS.labels(write="mark_entry").inc()
            _log.warning("entry_not_marked", job=str(fence.job_id), error=str(error))
