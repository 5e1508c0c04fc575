"""A job: what a caller submitted and where it stands."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

from service.domain.tiers import Tier

JsonObject: TypeAlias = dict[str, Any]

DEFAULT_AGENT = "user-story"
_LONGEST_NAME = 200


class JobStatus(StrEnum):
    """Where a job stands; `completed`, `failed` and `cancelled` are terminal."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended; only a redrive leaves `failed` again."""
        return self in TERMINAL


TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """Who a job belongs to."""

    tenant_id: str
    user_id: str


def is_name(text: str) -> bool:
    """Return whether a text can be the name of a tenant or of a user."""
    return 0 < len(text) <= _LONGEST_NAME and text.isprintable()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job about to be accepted."""

    id: UUID
    owner: Owner
    agent: str
    mode: str
    story: str
    iterations: tuple[str, ...]
    options: JsonObject
    deadline_seconds: float
    tier: Tier
    reserved_tokens: int = 0
    trace_parent: str | None = None
    request_id: str | None = None
    idempotency_key: str | None = None
    fingerprint: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of `jobs`; times are Postgres' clock."""

    id: UUID
    owner: Owner
    agent: str
    mode: str
    story: str
    iterations: tuple[str, ...]
    options: JsonObject = field(default_factory=dict)
    status: JobStatus
    attempt: int
    error_count: int = 0
    crash_count: int = 0
    handback_count: int = 0
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    available_at: datetime
    deadline_at: datetime
    result: JsonObject | None = None
    error: JsonObject | None = None
    final_event_id: str | None = None
    trace_parent: str | None = None
    request_id: str | None = None
