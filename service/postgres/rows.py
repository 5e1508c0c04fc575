"""Rows to values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from asyncpg import Record

from service.domain.acceptance import LimitReached, Standing, Verdict, refusal
from service.domain.attempt import Checkpoint
from service.domain.job import Job, JobStatus, Owner
from service.domain.tiers import Tier
from service.domain.usage import Usage
from service.ports.attempts import Recorded, Totals
from service.telemetry.logs import get_log
from service.telemetry.metrics import SUBMISSIONS_REFUSED

_log = get_log(__name__)


def job_from(row: Record) -> Job:
    """Read a whole `jobs` row."""
    return Job(
        id=row["id"],
        owner=Owner(row["tenant_id"], row["user_id"]),
        agent=row["agent"],
        mode=row["mode"],
        story=row["story"],
        iterations=tuple(row["iterations"]),
        options=row["options"],
        status=JobStatus(row["status"]),
        attempt=row["attempt"],
        error_count=row["error_count"],
        crash_count=row["crash_count"],
        handback_count=row["handback_count"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        available_at=row["available_at"],
        deadline_at=row["deadline_at"],
        result=row["result"],
        error=row["error"],
        final_event_id=row["final_event_id"],
        trace_parent=row["trace_parent"],
        request_id=row["request_id"],
    )


def refusal_from(row: Record, tier: Tier) -> LimitReached | None:
    """Read which limit left no room, and count it; None if there was room."""
    verdict = Verdict(row["verdict"])
    standing = Standing(
        active=row["active"],
        requests=row["requests"],
        tokens=row["tokens"],
        day_left=row["day_left"],
    )
    refused = refusal(verdict, tier, standing, row["wanted"])
    if refused is not None:
        SUBMISSIONS_REFUSED.labels(limit=verdict.value).inc()
    return refused


def recorded_from(row: Record, *, applied: bool = False) -> Recorded:
    """Read where a job stands."""
    status: Any = row["status"]
    return Recorded(
        applied=applied,
        status=JobStatus(status) if status else None,
        attempt=row["attempt"],
        entry_id=row["entry_id"],
        final_event_id=row["final_event_id"],
    )


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Finished calls by job and step; `damaged` are the jobs of which one cannot be read."""

    by_job: Mapping[UUID, dict[str, Checkpoint]]
    damaged: frozenset[UUID] = frozenset()


def checkpoints_from(rows: Iterable[Record]) -> Checkpoints:
    """Group checkpoint rows; one that cannot be read is logged, and stops no other job."""
    found: dict[UUID, dict[str, Checkpoint]] = {}
    damaged: set[UUID] = set()
    for row in rows:
        job_id, step = row["job_id"], row["step"]
        try:
            found.setdefault(job_id, {})[step] = Checkpoint.from_json(step, row["output"])
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            _log.error("unreadable_checkpoint", job=str(job_id), step=step, error=repr(error))
            damaged.add(job_id)
    return Checkpoints(found, frozenset(damaged))


def totals_from(row: Record) -> Totals:
    """Read a ledger sum."""
    usage = Usage(
        row["input"], row["output"], row["cache_read"], row["cache_write"], row["estimated"]
    )
    return Totals(
        usage=usage, cost_usd=row["cost_usd"], models=tuple(row["models"]), calls=row["calls"]
    )
