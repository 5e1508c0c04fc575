"""What the service answers, as types; the names are those of its JSON."""

from typing import Literal, TypedDict

from service.domain.job import JsonObject


class TokenUsage(TypedDict):
    """Tokens of a job's model calls so far; `input` excludes what the cache read or wrote."""

    input: int
    output: int
    cacheRead: int
    cacheWrite: int


class Progress(TypedDict):
    """The completed iterations with what each of them changed, and the one under way."""

    completed: list[JsonObject]
    current: str | None


class JobError(TypedDict):
    """Why a job failed; `retryable` says whether the same job may succeed another time."""

    code: str
    message: str
    retryable: bool


class JobSummary(TypedDict):
    """A job without its progress and result; times are RFC 3339 in UTC."""

    id: str
    status: Literal["queued", "processing", "completed", "failed", "cancelled"]
    story: str
    mode: str
    agent: str
    iterations: list[str]
    options: JsonObject
    attempt: int
    createdAt: str
    availableAt: str | None
    startedAt: str | None
    completedAt: str | None
    error: JobError | None


class JobDocument(JobSummary):
    """A job with all there is to tell; `costUsd` is None if the price of a call is unknown."""

    progress: Progress
    result: JsonObject | None
    tokenUsage: TokenUsage
    costUsd: float | None


class JobPage(TypedDict):
    """A page of jobs, newest first; `nextCursor` is None on the last one."""

    jobs: list[JobSummary]
    nextCursor: str | None


class JobReceipt(TypedDict):
    """A job just accepted."""

    id: str
    status: Literal["queued", "processing", "completed", "failed", "cancelled"]
    mode: str
    iterations: list[str]
    createdAt: str


class JobLinks(TypedDict):
    """Where a job and its events are."""

    self: str
    stream: str


class AcceptedJob(TypedDict):
    """The answer to a submission; how many jobs wait ahead of it, if that is known."""

    job: JobReceipt
    queuePosition: int | None
    links: JobLinks


class RedrivenJob(TypedDict):
    """The answer to a redrive."""

    job: JobReceipt
    links: JobLinks


class DeletedJob(TypedDict):
    """The answer to a cancellation or a purge."""

    id: str
    status: Literal["cancelled", "purged"]
