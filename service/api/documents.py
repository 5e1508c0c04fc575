"""The documents the API answers with; the OpenAPI description is made from them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from service.api.statuses import JOB_CODES_TOLD
from service.domain.events import EventType
from service.domain.iterations import Iteration
from service.domain.job import Job, JobStatus, JsonObject
from service.domain.usage import Usage
from service.ports.attempts import Totals

JOBS_PATH = "/api/v1/jobs"


class Document(BaseModel):
    """A JSON object with camelCase names; times are RFC 3339 in UTC."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, use_attribute_docstrings=True
    )

    def respond(
        self,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> web.Response:
        """Answer with this document."""
        body = self.model_dump_json(by_alias=True).encode()
        return web.Response(body=body, status=status, headers=headers, content_type=content_type)


class TokenUsage(Document):
    """Tokens of a job's model calls so far; `input` excludes what the cache read or wrote."""

    input: int
    output: int
    cache_read: int
    cache_write: int

    @classmethod
    def of(cls, usage: Usage) -> Self:
        """Show a ledger sum."""
        return cls.model_validate(usage.as_json())


class Progress(Document):
    """How far a job is."""

    completed: list[dict[str, Any]]
    """The completed iterations with what each of them changed."""
    current: str | None
    """The iteration under way."""


class JobError(Document):
    """Why a job failed."""

    code: str = Field(description=f"What happened, for programs: {JOB_CODES_TOLD}.")
    message: str
    retryable: bool = Field(False, description="Whether the same job may succeed another time.")


class JobSummary(Document):
    """A job without its progress and result."""

    id: UUID
    status: JobStatus
    story: str
    """The story as it was submitted."""
    mode: str
    agent: str
    iterations: tuple[str, ...]
    """The iterations that run, in their order."""
    options: dict[str, Any]
    attempt: int
    """Grows with every start, cancellation and redrive; ids of events begin with it."""
    created_at: datetime
    available_at: datetime | None
    """When a job that waits for another attempt may start; null for all others."""
    started_at: datetime | None
    completed_at: datetime | None
    """When the job ended, however it ended."""
    error: JobError | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """Show a job."""
        return cls(**_summary(job))


class JobDocument(JobSummary):
    """A job with all there is to tell."""

    progress: Progress
    result: dict[str, Any] | None
    """The improved story, structured (`story`) and as `markdown`, and how it came about."""
    token_usage: TokenUsage
    cost_usd: float | None
    """Null if the price of a call is unknown."""

    @classmethod
    def with_progress(cls, job: Job, snapshot: JsonObject, totals: Totals) -> Self:
        """Show a job with its agent's snapshot and what its ledger says."""
        return cls(
            **_summary(job),
            progress=Progress(completed=snapshot["completed"], current=snapshot["current"]),
            result=job.result,
            token_usage=TokenUsage.of(totals.usage),
            cost_usd=None if totals.cost_usd is None else float(totals.cost_usd),
        )


def _summary(job: Job) -> dict[str, Any]:
    names = JobSummary.model_fields.keys() - {"error", "available_at"}
    waits = job.status is JobStatus.QUEUED and job.attempt > 0
    error = None if job.error is None else JobError.model_validate(job.error)
    shown = {name: getattr(job, name) for name in names}
    return {**shown, "error": error, "available_at": job.available_at if waits else None}


class JobPage(Document):
    """A page of jobs, newest first; shorter than asked for if their stories are long."""

    jobs: list[JobSummary]
    next_cursor: str | None
    """The `cursor` of the next page; null on the last one."""


class JobReceipt(Document):
    """A job just accepted."""

    id: UUID
    status: JobStatus
    mode: str
    iterations: tuple[str, ...]
    created_at: datetime

    @classmethod
    def of(cls, job: Job) -> Self:
        """Show a job that was accepted."""
        return cls(
            id=job.id,
            status=job.status,
            mode=job.mode,
            iterations=job.iterations,
            created_at=job.created_at,
        )


class JobLinks(Document):
    """Where a job is found."""

    self: str
    stream: str
    """Its live events."""

    @classmethod
    def of(cls, job_id: UUID) -> Self:
        """Point to a job."""
        path = f"{JOBS_PATH}/{job_id}"
        return cls.model_validate({"self": path, "stream": f"{path}/stream"})


class AcceptedJob(Document):
    """The answer to a submission."""

    job: JobReceipt
    queue_position: int | None
    """How many jobs wait ahead of it; null if unknown or more than 1000."""
    links: JobLinks


class RedrivenJob(Document):
    """The answer to a redrive."""

    job: JobReceipt
    links: JobLinks


class FinishedJob(Document):
    """The answer to a submission that was waited for."""

    job: JobDocument
    links: JobLinks


class DeletedJob(Document):
    """The answer to a cancellation or a purge."""

    id: UUID
    status: Literal["cancelled", "purged"]


class StreamedEvent(Document):
    """One event of a stream; its `data` is one line of JSON."""

    event: EventType
    data: str
    """A JSON object, which always has `type`, `jobId` and `attempt`."""
    id: str | None = Field(None, examples=["1-42"])
    """Where in the stream it is; none for snapshots."""


class IterationDocument(Document):
    """One way to look at a story."""

    id: str
    name: str
    description: str
    category: str
    order: int
    applies_to: tuple[str, ...]
    """Types of product it makes sense for."""
    may_change: tuple[str, ...]
    """Parts of the structured story that it may change."""

    @classmethod
    def of(cls, iteration: Iteration) -> Self:
        """Show an iteration, without its prompt."""
        return cls(
            id=iteration.id,
            name=iteration.name,
            description=iteration.description,
            category=iteration.category,
            order=iteration.order,
            applies_to=iteration.applies_to,
            may_change=iteration.paths,
        )


class IterationList(Document):
    """Iterations in the order they run in."""

    iterations: list[IterationDocument]


class Health(Document):
    """Whether the process is alive."""

    status: str


class Readiness(Document):
    """Whether the process can take requests: `ok`, `degraded`, `unavailable` or `draining`."""

    status: str
    checks: dict[str, str]
    """Each server this needs: `ok` or `unavailable`."""


class Version(Document):
    """What this is."""

    name: str
    version: str
    offline: bool
    """Whether stories are written by rules instead of by a model."""


class Entry(Document):
    """What answers here and where to go on."""

    name: str
    version: str
    links: dict[str, str]


class ProblemError(Document):
    """One bad part of a request."""

    field: str
    """Where it is: a JSON path, a query parameter or a header."""
    message: str


class ProblemDocument(Document):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    """The path of the request."""
    code: str
    """What happened, for programs; each answer lists those that it can have."""
    errors: list[ProblemError]
    max_bytes: int | None = Field(None, exclude_if=lambda limit: limit is None)
    """The longest story that the caller may send."""
    max_iterations: int | None = Field(None, exclude_if=lambda limit: limit is None)
    """The most iterations that a job of the caller may run."""
