"""An example of every answer, made from the documents that are answered with."""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from service.api.dead_letter_documents import DeadLetterDocument, DeadLetterList, RedriveReport
from service.api.documents import (
    Document,
    Health,
    IterationDocument,
    IterationList,
    ProblemDocument,
    Readiness,
    Version,
)
from service.api.job_examples import JOB_EXAMPLES, JOB_ID, MARKDOWN_STORY, OWNER, SUBMITTED
from service.api.operation import JSON, MARKDOWN
from service.api.preview_documents import CostRange, CountRange, WorkflowPreviewDocument
from service.api.problems import INTERNAL_ERROR, Problem, forbidden, problem_of, unauthorized
from service.api.queue_documents import PauseState, QueueDocument
from service.api.usage_documents import (
    DayUsageDocument,
    QuotaDocument,
    UsageDocument,
    UsageHistory,
)
from service.domain.acceptance import LimitReached
from service.domain.dead_letters import DeadLetter
from service.domain.errors import (
    FieldError,
    IdempotencyConflict,
    InvalidInput,
    JobFinished,
    NotFound,
    Unavailable,
)
from service.domain.iterations import CONSOLIDATION, ITERATIONS, applicable
from service.domain.tiers import PRO
from service.domain.usage import Usage
from service.ports.queue_control import JobCounts, Pause, StreamCounts
from service.ports.usage import TodaysUsage

_TODAY = TodaysUsage(
    day=date(2026, 11, 24),
    requests=12,
    usage=Usage(input=17_400, output=3_720, cache_read=25_200),
    cost_usd=Decimal("0.1128"),
    unpriced_calls=0,
    reserved_tokens=4_000,
    active_jobs=1,
)
_ITERATION = IterationDocument.of(ITERATIONS["validation"])
_PAUSE = Pause(SUBMITTED, "acme/operator", "The model's bill is looked into.")
_QUEUE = QueueDocument.of(
    None,
    JobCounts(
        queued=3,
        waiting=1,
        without_entry=1,
        processing=2,
        failed=4,
        oldest_queued=1.7,
        completed_last_hour=118,
        failed_last_hour=1,
        cancelled_last_hour=2,
    ),
    [
        StreamCounts(stream="{usa}:jobs:again", entries=0, lag=0, pending=0, consumers=2),
        StreamCounts(stream="{usa}:jobs", entries=4, lag=2, pending=2, consumers=2),
    ],
)
_LETTER = DeadLetter(
    id=JOB_ID,
    owner=OWNER,
    agent="user-story",
    error={"code": "MODEL_UNAVAILABLE", "message": "the model is overloaded", "retryable": True},
    attempt=4,
    error_count=3,
    crash_count=0,
    handback_count=0,
    created_at=SUBMITTED,
    failed_at=SUBMITTED + timedelta(seconds=42),
)
_PREVIEW = WorkflowPreviewDocument(
    product_type="api",
    verify=True,
    iterations=(*(each.id for each in applicable("api")), CONSOLIDATION.id),
    models=("claude-sonnet-5-5", "claude-haiku-5-5"),
    assumed_story_characters=1000,
    calls=CountRange(min=11, usual=22, max=55),
    tokens=CountRange(min=59_000, usual=109_000, max=295_000),
    cost_usd=CostRange(min=0.223, usual=0.23, max=0.721),
)

EXAMPLES: Final[Mapping[str, Mapping[int, Document]]] = {
    **JOB_EXAMPLES,
    "list_iterations": {200: IterationList(iterations=[_ITERATION])},
    "get_iteration": {200: _ITERATION},
    "preview_workflow": {200: _PREVIEW},
    "get_usage": {200: UsageDocument.of_today(_TODAY)},
    "list_daily_usage": {200: UsageHistory(days=[DayUsageDocument.of(_TODAY)])},
    "get_quota": {200: QuotaDocument.of(PRO, _TODAY)},
    "get_queue": {200: _QUEUE},
    "pause_queue": {200: PauseState.of(_PAUSE)},
    "resume_queue": {200: PauseState.of(None)},
    "list_dead_letters": {
        200: DeadLetterList(dead_letters=[DeadLetterDocument.of(_LETTER)], next_cursor=None)
    },
    "redrive_dead_letters": {202: RedriveReport(redriven=[JOB_ID], refused=[])},
    "get_health": {200: Health(status="ok")},
    "get_readiness": {
        200: Readiness(status="degraded", checks={"postgres": "ok", "redis": "unavailable"}),
        503: Readiness(
            status="unavailable", checks={"postgres": "unavailable", "redis": "unavailable"}
        ),
    },
    "get_version": {200: Version(name="user-story-service", version="1.2.3", offline=False)},
}

# What has no document of its own, by media type.
PLAIN_EXAMPLES: Final[Mapping[str, Any]] = {
    MARKDOWN: MARKDOWN_STORY,
    JSON: {"openapi": "3.1.0", "info": {"title": "User story service"}, "paths": {}},
}

_PATH = f"/api/v1/jobs/{JOB_ID}"
_TOO_LONG = "limit: give a number from 1 to 100"
_PROBLEMS: tuple[Problem, ...] = (
    problem_of(
        InvalidInput(_TOO_LONG, errors=[FieldError("limit", "give a number from 1 to 100")])
    ),
    unauthorized("the credential is unknown, expired or revoked"),
    forbidden("jobs:write"),
    problem_of(NotFound("no such job")),
    Problem(status=406, code="NOT_ACCEPTABLE", detail="a job is JSON or, once completed, Markdown"),
    Problem(status=408, code="REQUEST_TIMEOUT", detail="the body did not arrive within 30 seconds"),
    problem_of(JobFinished("completed")),
    problem_of(PRO.story_refusal("the story has 40000 bytes")),
    Problem(
        status=415,
        code="UNSUPPORTED_MEDIA_TYPE",
        detail="send the body as `Content-Type: application/json`",
    ),
    problem_of(IdempotencyConflict("this Idempotency-Key was used with another body")),
    problem_of(
        LimitReached(
            "DAILY_QUOTA_EXCEEDED", "500 of 500 jobs of this day were submitted", retry_after=3600
        )
    ),
    problem_of(Unavailable("Postgres")),
    INTERNAL_ERROR,
)

PROBLEM_EXAMPLES: Final[Mapping[int, ProblemDocument]] = {
    problem.status: problem.document(_PATH) for problem in _PROBLEMS
}
