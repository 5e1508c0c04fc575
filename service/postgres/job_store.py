"""Jobs as their owners see them: accept, read, list, cancel."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import accumulate
from typing import Any
from uuid import UUID

from asyncpg import Record
from asyncpg.exceptions import LockNotAvailableError

from service.domain.acceptance import Verdict
from service.domain.attempt import Checkpoint, Fence
from service.domain.errors import (
    IdempotencyConflict,
    IdempotencyInFlight,
    JobFinished,
    JobNotEnded,
    NotFound,
    Unavailable,
)
from service.domain.events import EventId
from service.domain.job import Job, JobStatus, NewJob
from service.group_commit import GroupCommit
from service.ports.attempts import Recorded, Totals
from service.ports.jobs import Accepted, Page
from service.postgres.attempt_store import PostgresAttemptStore
from service.postgres.batches import array_statement
from service.postgres.pool import Database
from service.postgres.rows import checkpoints_from, job_from, refusal_from, totals_from
from service.postgres.storable import to_json
from service.supervision import Background
from service.telemetry.metrics import JOBS_ENDED, JOBS_PURGED

_MOST_COUNTED = 1000
_IN_FLIGHT = "a request with this Idempotency-Key is still being decided"
# Twenty of the longest stories, in characters: a page waits in memory for whoever reads it.
_LONGEST_PAGE = 1_048_576
# Each holds its user's lock until all are decided.
_MOST_TOGETHER = 100


class PostgresJobStore:
    """The API's side of `jobs`; every read and cancel names its tenant and user."""

    def __init__(
        self,
        database: Database,
        attempts: PostgresAttemptStore,
        background: Background,
        *,
        user_in_stream: int,
        queue_limit: int = 0,
    ) -> None:
        self._database = database
        self._attempts = attempts
        self._accept: GroupCommit[NewJob, Record] = GroupCommit(
            "accept",
            array_statement(
                database,
                "accept_jobs",
                _submission_row,
                lambda row: row,
                user_in_stream,
                queue_limit,
            ),
            background,
            max_batch=_MOST_TOGETHER,
        )

    async def accept(self, job: NewJob) -> Accepted:
        """Commit a job by its owner's limits, or return the one its idempotency key is bound to."""
        try:
            row = await self._accept.submit(job)
        except Unavailable as error:
            if job.idempotency_key and isinstance(error.__cause__, LockNotAvailableError):
                raise IdempotencyInFlight(_IN_FLIGHT) from error
            raise
        verdict = Verdict(row["verdict"])
        if verdict is Verdict.IN_FLIGHT:
            raise IdempotencyInFlight(_IN_FLIGHT)
        if verdict is Verdict.BOUND:
            return _accepted_before(job, row)
        refused = refusal_from(row, job.tier)
        if refused is not None:
            raise refused
        ahead = row["ahead"]
        return Accepted(
            job=_submitted(job, row),
            is_new=True,
            ring_now=row["ring_now"],
            queue_position=ahead if ahead <= _MOST_COUNTED else None,
        )

    async def get_owned(self, job_id: UUID, tenant_id: str, user_id: str | None) -> Job | None:
        """Read one job of this owner."""
        rows = await self._database.fetch_within(
            tenant_id, user_id, "get_owned_job", job_id, tenant_id, user_id
        )
        return job_from(rows[0]) if rows else None

    async def list_owned(
        self,
        tenant_id: str,
        user_id: str | None,
        status: JobStatus | None,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Page:
        """Read a page of this owner's jobs, newest first, without their results.

        Long stories make it shorter than `limit`.
        """
        place = before or (None, None)
        rows = await self._database.fetch_within(
            tenant_id,
            user_id,
            "list_owned_jobs",
            tenant_id,
            user_id,
            status,
            *place,
            limit + 1,
        )
        jobs = tuple(job_from(row) for row in rows[: min(limit, _fitting(rows))])
        more = len(rows) > len(jobs)
        return Page(jobs, (jobs[-1].created_at, jobs[-1].id) if more else None)

    async def cancel_owned(self, job_id: UUID, tenant_id: str, user_id: str | None) -> Job:
        """Decide the race between cancelling and completing."""
        rows = await self._database.fetch_within(
            tenant_id, user_id, "cancel_owned_job", job_id, tenant_id, user_id
        )
        if rows:
            JOBS_ENDED.labels(status="cancelled").inc()
            return job_from(rows[0])
        job = await self.get_owned(job_id, tenant_id, user_id)
        if job is None:
            raise NotFound(f"no job {job_id}")
        if not job.status.is_terminal:  # it was redriven a moment ago
            return await self.cancel_owned(job_id, tenant_id, user_id)
        if job.status is not JobStatus.CANCELLED:
            raise JobFinished(job.status.value)
        return job

    async def purge_owned(self, job_id: UUID, tenant_id: str, user_id: str | None) -> None:
        """Decide the race between purging and redriving; the ledger stays."""
        if await self._database.fetch_within(
            tenant_id, user_id, "purge_owned_job", job_id, tenant_id, user_id
        ):
            JOBS_PURGED.inc()
            return None
        job = await self.get_owned(job_id, tenant_id, user_id)
        if job is None:
            raise NotFound(f"no job {job_id}")
        if job.status.is_terminal:  # only since a moment ago
            return await self.purge_owned(job_id, tenant_id, user_id)
        raise JobNotEnded(job.status.value)

    async def checkpoints(self, job: Job) -> dict[str, Checkpoint]:
        """Read a job's finished model calls."""
        rows = await self._of(job, "read_checkpoints", [job.id])
        return checkpoints_from(rows).by_job.get(job.id, {})

    async def totals(self, job: Job) -> Totals:
        """Sum up a job's ledger."""
        [row] = await self._of(job, "sum_ledger", job.id)
        return totals_from(row)

    async def _of(self, job: Job, name: str, *parameters: Any) -> list[Record]:
        owner = job.owner
        return await self._database.fetch_within(owner.tenant_id, owner.user_id, name, *parameters)

    async def read_fences(self, job_ids: Sequence[UUID]) -> dict[UUID, Recorded]:
        """Read where jobs stand, many at once."""
        return await self._attempts.read_fences(job_ids)

    async def mark_entry(self, fence: Fence, entry_id: str) -> None:
        """Record where a queued job's entry is."""
        await self._attempts.mark_entry(fence, entry_id)

    async def clear_event_pending(self, job_id: UUID, final_event_id: EventId) -> None:
        """Note that this terminal event is in the stream; one of a later generation stays owed."""
        await self._attempts.clear_event_pending(job_id, final_event_id)


def _fitting(rows: Sequence[Record]) -> int:
    """Return how many of the rows one answer may hold, at least one."""
    sizes = accumulate(len(row["story"]) for row in rows)
    return max(1, sum(size <= _LONGEST_PAGE for size in sizes))


def _submission_row(job: NewJob) -> Sequence[Any]:
    return (
        job.id,
        job.owner.tenant_id,
        job.owner.user_id,
        job.agent,
        job.mode,
        job.story,
        to_json(job.iterations),
        to_json(job.options),
        job.deadline_seconds,
        job.reserved_tokens,
        job.trace_parent,
        job.request_id,
        job.idempotency_key,
        job.fingerprint,
        job.tier.requests_per_day,
        job.tier.tokens_per_day,
        job.tier.concurrent_jobs,
    )


def _accepted_before(job: NewJob, row: Record) -> Accepted:
    if row["bound_fingerprint"] != job.fingerprint:
        raise IdempotencyConflict("this Idempotency-Key was used with another body")
    return Accepted(job=_submitted(job, row), is_new=False, ring_now=False, queue_position=None)


def _submitted(job: NewJob, row: Record) -> Job:
    return replace(job_from(row), story=job.story, options=job.options)
