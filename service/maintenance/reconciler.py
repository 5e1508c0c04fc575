"""Repairs what no process will repair by itself: lost entries, lost workers, lost endings."""

from collections.abc import Sequence

from service.domain.events import final_event
from service.ports import AttemptStore, EventLog, PendingEntries, RecordedEntry, UpkeepStore, Wake
from service.telemetry.logs import get_log
from service.telemetry.metrics import JOBS_ENDED, RECONCILED

_log = get_log(__name__)

_BATCH = 200


class Reconciler:
    """One works at a time, in bounded batches; a deep healthy queue is left alone.

    `wake_relay` is called when jobs need new entries. Times in seconds.
    """

    def __init__(
        self,
        upkeep: UpkeepStore,
        attempts: AttemptStore,
        events: EventLog,
        pending: PendingEntries,
        *,
        lease: float,
        max_crashes: int,
        event_retention: float,
        wake_relay: Wake,
    ) -> None:
        self._upkeep = upkeep
        self._attempts = attempts
        self._events = events
        self._pending = pending
        self._lease = lease
        self._max_crashes = max_crashes
        self._event_retention = event_retention
        self._wake_relay = wake_relay

    async def run_once(self) -> int:
        """Repair what can be repaired now; returns how many repairs. Raises `Unavailable`.

        What needs only Postgres is done even while Redis is away.
        """
        async with self._upkeep.only_reconciler() as is_ours:
            if not is_ours:
                return 0
            repaired = await self._fail_overdue()
            steps = (
                self._ensure_streams,
                self._append_owed_events,
                self._recover_lost_jobs,
                self._forget_lost_entries,
            )
            for step in steps:
                repaired += await step()
            return repaired

    async def _fail_overdue(self) -> int:
        failed = await self._upkeep.fail_overdue(_BATCH)
        JOBS_ENDED.labels(status="failed").inc(failed)
        return _count("overdue", failed)

    async def _ensure_streams(self) -> int:
        lost = await self._pending.ensure_streams()
        if lost:
            _log.warning("streams_recreated")
        return _count("streams", int(lost))

    async def _append_owed_events(self) -> int:
        owing = await self._upkeep.owing_events(_BATCH)
        for job in owing:
            event = final_event(job)
            if event is None:
                raise AssertionError(f"job {job.id} owes an event that it does not have")
            await self._events.append(job.id, [event], self._event_retention)
            await self._attempts.clear_event_pending(job.id)
        return _count("event", len(owing))

    async def _recover_lost_jobs(self) -> int:
        expired = await self._upkeep.expired_leases(self._lease, _BATCH)
        lost = await self._without_entry(expired)
        if not lost:
            return 0
        recovered = await self._upkeep.recover_if_expired(
            [each.fence for each in lost], self._max_crashes
        )
        JOBS_ENDED.labels(status="failed").inc(recovered.failed)
        if recovered.queued:
            _log.warning("lost_jobs_queued_again", jobs=recovered.queued)
            self._wake_relay()
        return _count("lost_job", recovered.queued) + _count("worker_lost", recovered.failed)

    async def _forget_lost_entries(self) -> int:
        forgotten = 0
        for attempt in (0, 1):
            state = await self._pending.state(attempt)
            suspects = await self._upkeep.suspect_entries(
                started=attempt > 0,
                last_delivered=state.last_delivered,
                first=state.first,
                limit=_BATCH,
            )
            lost = await self._without_entry(suspects)
            if lost:
                entries = [(each.fence.job_id, each.entry_id) for each in lost]
                forgotten += await self._upkeep.unmark_entries(entries)
        if forgotten:
            _log.warning("lost_entries_forgotten", jobs=forgotten)
            self._wake_relay()
        return _count("lost_entry", forgotten)

    async def _without_entry(self, recorded: Sequence[RecordedEntry]) -> list[RecordedEntry]:
        """Return those whose entry nobody holds, in either stream."""
        lost = list(recorded)
        for attempt in (0, 1):
            entries = [(attempt, each.entry_id) for each in lost]
            answers = await self._pending.not_pending(entries) if entries else []
            lost = [each for each, is_free in zip(lost, answers, strict=True) if is_free]
        return lost


def _count(repair: str, number: int) -> int:
    if number:
        RECONCILED.labels(repair=repair).inc(number)
    return number
