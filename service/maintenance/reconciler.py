"""Repairs what no process will repair by itself: lost entries, lost workers, lost endings."""

from asyncio import gather
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

from service.domain.errors import Unavailable
from service.domain.events import final_event
from service.domain.job import Job
from service.maintenance.rounds import in_batches, take_all
from service.ports.attempts import AttemptStore
from service.ports.events import EventLog
from service.ports.queue import Wake
from service.ports.upkeep import PendingEntries, RecordedEntry, UpkeepStore
from service.telemetry.logs import get_log
from service.telemetry.metrics import JOBS_ENDED, RECONCILED

_log = get_log(__name__)

Row = TypeVar("Row")

_BATCH = 200
# Well before Postgres ends the transaction that holds the lock, because it idles meanwhile.
_LONGEST_ROUND = 5.0


class Reconciler:
    """One works at a time, in bounded batches; a deep healthy queue is left alone.

    What cannot be repaired, be it a row or a whole step, stands in no other's way.
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
        self._skipped: Counter[str] = Counter()
        self._ends_at = 0.0

    async def run_once(self) -> int:
        """Repair what can be repaired now; returns how many repairs. Raises `Unavailable`.

        What needs only Postgres is done even while Redis is away.
        """
        async with self._upkeep.only_reconciler() as is_ours:
            return await self._repair() if is_ours else 0

    async def _repair(self) -> int:
        self._ends_at = monotonic() + _LONGEST_ROUND
        return await take_all(
            (
                self._fail_overdue,
                self._write_off_calls,
                self._ensure_streams,
                self._append_owed_events,
                self._recover_lost_jobs,
                partial(self._forget_lost_entries, 0),
                partial(self._forget_lost_entries, 1),
            )
        )

    async def _fail_overdue(self) -> int:
        failed = await self._in_batches(self._upkeep.fail_overdue)
        JOBS_ENDED.labels(status="failed").inc(failed)
        return _count("overdue", failed)

    async def _write_off_calls(self) -> int:
        return _count("open_call", await self._in_batches(self._upkeep.write_off_calls))

    async def _ensure_streams(self) -> int:
        lost = await self._pending.ensure_streams()
        if lost:
            _log.warning("streams_recreated")
        return _count("streams", int(lost))

    async def _append_owed_events(self) -> int:
        list_page = partial(self._upkeep.owing_events, _BATCH)
        return await self._page_by_page("events", list_page, self._append_all)

    async def _append_all(self, owing: Sequence[Job]) -> int:
        outcomes = await gather(*map(self._append_final, owing), return_exceptions=True)
        appended = outcomes.count(True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return _count("event", appended)

    async def _append_final(self, job: Job) -> bool:
        """Append and note it; an error that is not an outage is this job's alone."""
        try:
            event = final_event(job)
            if event is None:
                raise AssertionError("it owes an event that it does not have")
            await self._events.append(job.id, [event], self._event_retention)
            await self._attempts.clear_event_pending(job.id, event.id)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - looked at again in every round
            _log.error("owed_event_not_appended", job=str(job.id), error=repr(error))
            return False
        return True

    async def _recover_lost_jobs(self) -> int:
        list_page = partial(self._upkeep.expired_leases, self._lease, _BATCH)
        return await self._page_by_page("leases", list_page, self._recover)

    async def _recover(self, expired: Sequence[RecordedEntry]) -> int:
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

    async def _forget_lost_entries(self, attempt: int) -> int:
        state = await self._pending.state(attempt)
        list_page = partial(
            self._upkeep.suspect_entries,
            started=attempt > 0,
            last_delivered=state.last_delivered,
            span=state.span,
            limit=_BATCH,
        )
        return await self._page_by_page(
            f"entries:{attempt}", list_page, partial(self._forget, attempt)
        )

    async def _forget(self, attempt: int, suspects: Sequence[RecordedEntry]) -> int:
        # Added since the stream was described, an entry looks lost and is not.
        answers = await self._pending.undelivered(attempt, [each.entry_id for each in suspects])
        not_there = [
            each for each, is_coming in zip(suspects, answers, strict=True) if not is_coming
        ]
        lost = await self._without_entry(not_there)
        if not lost:
            return 0
        entries = [(each.fence.job_id, each.entry_id) for each in lost]
        forgotten = await self._upkeep.unmark_entries(entries)
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

    async def _in_batches(self, act: Callable[[int], Awaitable[int]]) -> int:
        return await in_batches(act, _BATCH, until=self._ends_at)

    async def _page_by_page(
        self,
        what: str,
        list_page: Callable[..., Awaitable[Sequence[Row]]],
        repair: Callable[[Sequence[Row]], Awaitable[int]],
    ) -> int:
        """Repair to the last page, or as far as there is time; the next round goes on there.

        Rows that stay as they are are skipped, or the first of them would hide all others.
        """
        total = 0
        while True:
            page = await list_page(skip=self._skipped[what])
            is_last, done = len(page) < _BATCH, 0
            try:
                done = await repair(page) if page else 0
            finally:
                self._skipped[what] = 0 if is_last else self._skipped[what] + len(page) - done
            total += done
            if is_last or monotonic() >= self._ends_at:
                return total


def _count(repair: str, number: int) -> int:
    if number:
        RECONCILED.labels(repair=repair).inc(number)
    return number
