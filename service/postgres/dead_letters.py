"""Failed jobs: listed for those who operate the queue, and redriven by them or by their owners."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Record

from service.domain.dead_letters import DeadLetter, DeadLetterPage, Redrive, Redriven
from service.domain.errors import JobNotFailed, NotFound
from service.domain.job import JobStatus, Owner
from service.domain.tiers import UNLIMITED, Tier
from service.postgres.pool import Database
from service.postgres.rows import job_from, recorded_from, refusal_from
from service.telemetry.logs import get_log
from service.telemetry.metrics import JOBS_REDRIVEN

_log = get_log(__name__)


class PostgresDeadLetterStore:
    """Every redrive is one guarded statement, whoever asks for it."""

    def __init__(self, database: Database, *, user_in_stream: int) -> None:
        self._database = database
        self._user_in_stream = user_in_stream

    async def page(
        self, code: str | None, before: tuple[datetime, UUID] | None, limit: int
    ) -> DeadLetterPage:
        """Read a page of everybody's failed jobs, newest first."""
        rows = await self._database.fetch(
            "list_dead_letters", code, *(before or (None, None)), limit + 1
        )
        letters = tuple(_letter_from(row) for row in rows[:limit])
        more = len(rows) > limit
        return DeadLetterPage(letters, (letters[-1].failed_at, letters[-1].id) if more else None)

    async def redrive(self, job_ids: Sequence[UUID]) -> Redrive:
        """Queue those again that have failed, whoever owns them."""
        wanted = list(dict.fromkeys(job_ids))
        redriven = await self._redrive(wanted, None, None, None, len(wanted))
        done = {each.job.id for each in redriven}
        left = [job_id for job_id in wanted if job_id not in done]
        rows = await self._database.fetch("read_fences", left) if left else []
        stands = {row["id"]: recorded_from(row).status for row in rows}
        return Redrive(tuple(redriven), {job_id: stands.get(job_id) for job_id in left})

    async def redrive_code(self, code: str, limit: int) -> list[Redriven]:
        """Queue jobs again that failed with this code, those first that failed first."""
        return await self._redrive(None, None, None, code, limit)

    async def redrive_owned(
        self, job_id: UUID, tenant_id: str, user_id: str | None, tier: Tier
    ) -> Redriven:
        """Queue one failed job of this owner again, if his limits leave room for it."""
        choice = ([job_id], tenant_id, user_id, None, 1)
        for redriven in await self._redrive(*choice, tier=tier):
            return redriven
        row = await self._database.fetch_one("get_owned_job", job_id, tenant_id, user_id)
        if row is None:
            raise NotFound(f"no job {job_id}")
        if row["status"] == JobStatus.FAILED:  # only since a moment ago
            return await self.redrive_owned(job_id, tenant_id, user_id, tier)
        raise JobNotFailed(row["status"])

    async def _redrive(self, *choice: Any, tier: Tier = UNLIMITED) -> list[Redriven]:
        found = await self._database.fetch(
            "redrive_failed_jobs",
            *choice,
            self._user_in_stream,
            tier.tokens_per_day,
            tier.concurrent_jobs,
        )
        refused = refusal_from(found[0], tier)
        if refused is not None:
            raise refused
        rows = [row for row in found if row["id"] is not None]
        JOBS_REDRIVEN.inc(len(rows))
        for row in rows:
            _log.info(
                "job_redriven", job=str(row["id"]), attempt=row["attempt"], failure=row["failure"]
            )
        return [Redriven(job_from(row), row["ring_now"]) for row in rows]


def _letter_from(row: Record) -> DeadLetter:
    return DeadLetter(
        id=row["id"],
        owner=Owner(row["tenant_id"], row["user_id"]),
        agent=row["agent"],
        error=row["error"],
        attempt=row["attempt"],
        error_count=row["error_count"],
        crash_count=row["crash_count"],
        handback_count=row["handback_count"],
        created_at=row["created_at"],
        failed_at=row["completed_at"],
    )
