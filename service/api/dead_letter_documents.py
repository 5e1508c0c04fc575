"""Failed jobs as those see them who operate the queue, who never see stories or results."""

from datetime import datetime
from typing import Annotated, Final, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from service.api.documents import Document, JobError
from service.domain.dead_letters import DeadLetter
from service.domain.errors import JobNotFailed
from service.domain.job import JobStatus

MOST_REDRIVEN: Final = 100
ERROR_CODE_PATTERN: Final = "^[A-Z][A-Z0-9_]{0,63}$"


class DeadLetterDocument(Document):
    """A failed job: whose it is, why it failed and how it was tried."""

    id: UUID
    tenant_id: str
    user_id: str
    agent: str
    error: JobError
    attempt: int
    error_count: int
    """Attempts that ended in an error."""
    crash_count: int
    """Workers that were lost since the last finished call."""
    handback_count: int
    """Times a worker that was shut down gave it back."""
    created_at: datetime
    failed_at: datetime

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """Show a failed job."""
        return cls(
            id=letter.id,
            tenant_id=letter.owner.tenant_id,
            user_id=letter.owner.user_id,
            agent=letter.agent,
            error=JobError.model_validate(letter.error),
            attempt=letter.attempt,
            error_count=letter.error_count,
            crash_count=letter.crash_count,
            handback_count=letter.handback_count,
            created_at=letter.created_at,
            failed_at=letter.failed_at,
        )


class DeadLetterList(Document):
    """A page of failed jobs, newest first."""

    dead_letters: list[DeadLetterDocument]
    next_cursor: str | None
    """The `cursor` of the next page; null on the last one."""


class RedriveOrder(BaseModel):
    """Which failed jobs to queue again: either `ids` or a `code`."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"code": "MODEL_UNAVAILABLE", "limit": 20}]},
    )

    ids: list[Annotated[UUID, Field(strict=False)]] | None = Field(
        None, description="These jobs.", min_length=1, max_length=MOST_REDRIVEN
    )
    code: str | None = Field(
        None,
        description="Jobs that failed with this code, those first that failed first.",
        pattern=ERROR_CODE_PATTERN,
    )
    limit: int = Field(
        MOST_REDRIVEN,
        description="How many jobs of that code, at most.",
        ge=1,
        le=MOST_REDRIVEN,
    )


class RefusedRedrive(Document):
    """A job that stays as it is."""

    id: UUID
    code: str
    """`JOB_NOT_FAILED` or `NOT_FOUND`."""
    detail: str

    @classmethod
    def of(cls, job_id: UUID, status: JobStatus | None) -> Self:
        """Say why, from where the job stands (None: there is no such job)."""
        if status is None:
            return cls(id=job_id, code="NOT_FOUND", detail="there is no such job")
        is_late = status is JobStatus.FAILED
        detail = "it failed only just now: ask again" if is_late else str(JobNotFailed(status))
        return cls(id=job_id, code="JOB_NOT_FAILED", detail=detail)


class RedriveReport(Document):
    """What became of a request to redrive."""

    redriven: list[UUID]
    """The jobs that are queued again."""
    refused: list[RefusedRedrive]
