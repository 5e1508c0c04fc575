"""Guarded writes of attempts, and the renewal of their leases."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from asyncpg import Record

from service.domain.attempt import Claim, Delivery, Fence, Verdict
from service.domain.events import EventId
from service.domain.job import Job
from service.domain.transitions import Complete, Fail, HandBack, Postpone, Retry, Transition
from service.group_commit import GroupCommit
from service.ports.attempts import ClaimTerms, Recorded
from service.postgres.batches import array_statement, silent_statement
from service.postgres.pool import Database
from service.postgres.rows import Checkpoints, checkpoints_from, job_from, recorded_from
from service.postgres.storable import to_json
from service.postgres.usage_ledger import abandon_calls
from service.supervision import Background
from service.telemetry.metrics import JOBS_ENDED

_RULINGS = {
    "start": Verdict.CLAIMED,
    "take_over": Verdict.CLAIMED,
    "overdue": Verdict.FAILED,
    "worker_lost": Verdict.FAILED,
}

_Ending = tuple[Fence, Transition, EventId | None]


class PostgresAttemptStore:
    """Claims, endings and marks; every write is guarded by (attempt, status)."""

    def __init__(self, database: Database, background: Background) -> None:
        self._database = database
        self._record: GroupCommit[_Ending, tuple[Recorded, bool]] = GroupCommit(
            "record",
            array_statement(database, "record_if_current", _ending_row, _read_ending),
            background,
        )
        self._mark: GroupCommit[tuple[Fence, str], None] = GroupCommit(
            "mark",
            silent_statement(database, "mark_entries", lambda m: (m[0].job_id, m[0].attempt, m[1])),
            background,
        )
        self._clear: GroupCommit[tuple[UUID, EventId], None] = GroupCommit(
            "clear",
            silent_statement(database, "clear_event_pending", lambda c: (c[0], str(c[1]))),
            background,
        )

    async def claim(self, deliveries: Sequence[Delivery], terms: ClaimTerms) -> list[Claim]:
        """Judge deliveries, one verdict each, in their order; a job is started at most once."""
        first = {d.job_id: index for index, d in reversed(list(enumerate(deliveries)))}
        claims = await self._claim_each([deliveries[index] for index in first.values()], terms)
        return [
            claims[d.job_id] if index == first[d.job_id] else _beside(claims[d.job_id], d)
            for index, d in enumerate(deliveries)
        ]

    async def _claim_each(
        self, deliveries: Sequence[Delivery], terms: ClaimTerms
    ) -> dict[UUID, Claim]:
        rows = await self._database.fetch(
            "claim_jobs",
            [delivery.job_id for delivery in deliveries],
            [delivery.entry_id for delivery in deliveries],
            terms.worker_id,
            terms.lease,
            terms.max_crashes,
            terms.suspects_allowed,
        )
        ruled = {row["judged_id"]: row for row in rows}
        resumed = [job_from(row) for row in rows if _is_resumed(row)]
        # Only after the claim has committed can no earlier attempt add a checkpoint unseen.
        checkpoints = await self._take_over(resumed)
        return {d.job_id: _claim(d, ruled.get(d.job_id), checkpoints) for d in deliveries}

    async def _take_over(self, jobs: Sequence[Job]) -> Checkpoints:
        if not jobs:
            return Checkpoints({})
        fences = [Fence(job.id, job.attempt) for job in jobs]
        await abandon_calls(self._database, fences)
        ids = [job.id for job in jobs]
        return checkpoints_from(await self._database.fetch("read_checkpoints", ids))

    async def record_if_current(
        self, fence: Fence, transition: Transition, final_event_id: EventId | None
    ) -> Recorded:
        """Write how an attempt ended, unless it is no longer current.

        Repeating it after a lost reply is recognised as applied.
        """
        recorded, fresh = await self._record.submit((fence, transition, final_event_id))
        if fresh and recorded.status is not None and recorded.status.is_terminal:
            JOBS_ENDED.labels(status=recorded.status.value).inc()
        return recorded

    async def mark_entry(self, fence: Fence, entry_id: str) -> None:
        """Record where a queued job's entry is."""
        await self._mark.submit((fence, entry_id))

    async def clear_event_pending(self, job_id: UUID, final_event_id: EventId) -> None:
        """Note that this terminal event is in the stream; one of a later generation stays owed."""
        await self._clear.submit((job_id, final_event_id))

    async def get(self, job_id: UUID) -> Job | None:
        """Read one job, whoever owns it."""
        row = await self._database.fetch_one("get_job", job_id)
        return job_from(row) if row else None

    async def read_fences(self, job_ids: Sequence[UUID]) -> dict[UUID, Recorded]:
        """Read where jobs stand, many at once."""
        rows = await self._database.fetch("read_fences", list(job_ids))
        return {row["id"]: recorded_from(row) for row in rows}


class PostgresLeaseStore:
    """Lease renewal, on a pool that belongs to the lease thread's own loop."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def renew(self, worker_id: str, fences: Sequence[Fence], lease: float) -> set[Fence]:
        """Extend the leases and return those that are still this worker's."""
        rows = await self._database.fetch(
            "renew_leases",
            [fence.job_id for fence in fences],
            [fence.attempt for fence in fences],
            worker_id,
            lease,
        )
        return {Fence(row["id"], row["attempt"]) for row in rows}


def _is_resumed(row: Record) -> bool:
    return _RULINGS.get(row["ruling"]) is Verdict.CLAIMED and row["attempt"] > 1


def _claim(delivery: Delivery, row: Record | None, checkpoints: Checkpoints) -> Claim:
    if row is None:
        return Claim(delivery, Verdict.MISSING)
    verdict = _RULINGS.get(row["ruling"]) or Verdict(row["ruling"])
    job = job_from(row) if row["id"] is not None else None
    known = checkpoints.by_job.get(delivery.job_id, {})
    is_damaged = delivery.job_id in checkpoints.damaged
    return Claim(delivery, verdict, job, known, row["judged_at"], is_damaged)


def _beside(first: Claim, delivery: Delivery) -> Claim:
    return Claim(delivery, _verdict_beside(first, delivery.entry_id))


def _verdict_beside(first: Claim, entry_id: str) -> Verdict:
    """Judge a further delivery of a job by what became of its first."""
    match first.verdict:
        case Verdict.CLAIMED | Verdict.LEASED if entry_id != first.delivery.entry_id:
            return Verdict.LEASED_THROUGH_ANOTHER_ENTRY
        case Verdict.CLAIMED | Verdict.LEASED_THROUGH_ANOTHER_ENTRY:
            # Perhaps the very entry that the lease came through, so it must not be acknowledged.
            return Verdict.LEASED
        case Verdict.FAILED:
            return Verdict.TERMINAL
        case verdict:
            return verdict


def _ending_row(ending: _Ending) -> Sequence[Any]:
    fence, transition, final_event_id = ending
    final = str(final_event_id) if final_event_id else None
    match transition:
        case Complete(result):
            written: tuple[Any, ...] = ("completed", to_json(result), None, final, 0.0, 0, 0, False)
        case Fail() as fail:
            written = ("failed", None, to_json(fail.as_json()), final, 0.0, 1, 0, False)
        case Retry(delay):
            written = ("queued", None, None, None, delay, 1, 0, False)
        case HandBack():
            written = ("queued", None, None, None, 0.0, 0, 1, False)
        case Postpone(delay):
            written = ("queued", None, None, None, delay, 0, 0, True)
        case _:
            raise TypeError(f"{transition} writes nothing")
    return (fence.job_id, fence.attempt, *written)


def _read_ending(row: Record) -> tuple[Recorded, bool]:
    return recorded_from(row, applied=bool(row["applied"])), row["fresh"]
