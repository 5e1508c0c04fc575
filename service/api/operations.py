"""What each operation takes, answers and refuses, as the OpenAPI description tells it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel

from service.api.dead_letter_documents import (
    ERROR_CODE_PATTERN,
    DeadLetterList,
    RedriveOrder,
    RedriveReport,
)
from service.api.documents import (
    AcceptedJob,
    DeletedJob,
    FinishedJob,
    Health,
    IterationDocument,
    IterationList,
    JobDocument,
    JobPage,
    Readiness,
    RedrivenJob,
    Version,
)
from service.api.iterations import CATEGORIES
from service.api.parameters import DEFAULT_PAGE, LARGEST_PAGE, LONGEST_WAIT
from service.api.preview_documents import WorkflowPreviewDocument
from service.api.submission import Submission
from service.domain.iterations import PRODUCT_TYPES
from service.domain.job import JobStatus
from service.domain.models import DEFAULT_QUALITY, PRESETS

JsonSchema = dict[str, Any]

MARKDOWN: Final = "text/markdown"
EVENTS: Final = "text/event-stream"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing a caller says outside of the body."""

    name: str
    place: Literal["path", "query", "header"]
    description: str
    schema: JsonSchema
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its representations by media type, None where it is not JSON."""

    description: str
    content: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation; `problems` are the statuses it has beyond those that all have."""

    tag: str
    summary: str
    description: str
    answers: Mapping[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    problems: tuple[int, ...] = ()


def _json(description: str, model: type[BaseModel]) -> Answer:
    return Answer(description, {JSON: model})


def _filter(name: str, description: str, choices: tuple[str, ...]) -> Parameter:
    return Parameter(name, "query", description, {"type": "string", "enum": [*choices]})


_JOB_ID = Parameter("id", "path", "The job's id.", {"type": "string", "format": "uuid"})
_WAIT = Parameter(
    "wait",
    "query",
    "Wait up to so many seconds for the job to end before answering.",
    {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
)
_PAGING = (
    Parameter(
        "limit",
        "query",
        "Jobs per page.",
        {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": DEFAULT_PAGE},
    ),
    Parameter(
        "cursor",
        "query",
        "`nextCursor` of the page before.",
        {"type": "string", "pattern": "^[A-Za-z0-9_-]{32}$"},
    ),
)
_EVENT_ID = {"type": "string", "pattern": "^[0-9]{1,10}-[0-9]{1,12}$"}

OPERATIONS: Mapping[str, Operation] = {
    "create_job": Operation(
        tag="jobs",
        summary="Submit a user story",
        description="Queues a job that improves the story. With `wait` the answer holds the "
        "finished job if it ends in time; otherwise read the job later, or watch its stream.",
        parameters=(
            _WAIT,
            Parameter(
                "Idempotency-Key",
                "header",
                "Sent again with the same body within a day, it answers with the same job.",
                {"type": "string", "pattern": "^[!-~]{1,255}$"},
            ),
        ),
        body=Submission,
        answers={
            202: _json("The job is queued.", AcceptedJob),
            200: _json("The job ended within `wait`.", FinishedJob),
        },
        problems=(400, 408, 413, 415, 422),
    ),
    "list_jobs": Operation(
        tag="jobs",
        summary="List jobs",
        description="Pages of the caller's jobs, newest first, without their results.",
        parameters=(
            _filter("status", "Only jobs of this status.", tuple(JobStatus)),
            *_PAGING,
        ),
        answers={200: _json("A page.", JobPage)},
        problems=(400,),
    ),
    "get_job": Operation(
        tag="jobs",
        summary="Read a job",
        description="Status, progress, result and cost of a job; its improved story as Markdown "
        "with `Accept: text/markdown`.",
        parameters=(_JOB_ID, _WAIT),
        answers={200: Answer("The job.", {JSON: JobDocument, MARKDOWN: None})},
        problems=(400, 404, 406),
    ),
    "cancel_job": Operation(
        tag="jobs",
        summary="Cancel or purge a job",
        description="Cancels a job that has not ended; cancelling it again changes nothing. With "
        "`purge` it erases a job that has ended: its story, result, checkpoints and events.",
        parameters=(
            _JOB_ID,
            Parameter(
                "purge",
                "query",
                "Erase a job that has ended instead. It cannot be undone.",
                {"type": "boolean", "default": False},
            ),
        ),
        answers={200: _json("The job is cancelled, or gone.", DeletedJob)},
        problems=(400, 404, 409),
    ),
    "redrive_job": Operation(
        tag="jobs",
        summary="Redrive a failed job",
        description="Queues a failed job again, with new budgets and a new deadline. What it has "
        "finished is kept and not paid again, so that an error that is not `retryable` comes back.",
        parameters=(_JOB_ID,),
        answers={202: _json("The job is queued.", RedrivenJob)},
        problems=(404, 409),
    ),
    "stream_job": Operation(
        tag="jobs",
        summary="Watch a job",
        description="Server-sent events of a job from its start or after a cursor, during and "
        "after the job; the last one is `complete`, `error` or `cancelled`.",
        parameters=(
            _JOB_ID,
            Parameter("after", "query", "The id of the last event seen.", _EVENT_ID),
            Parameter("Last-Event-ID", "header", "The same, as browsers send it.", _EVENT_ID),
        ),
        answers={
            200: Answer("The events.", {EVENTS: None}),
            204: Answer("The last event has been seen."),
        },
        problems=(400, 404),
    ),
    "list_iterations": Operation(
        tag="iterations",
        summary="List the iterations a story can go through",
        description="In the order they run in.",
        parameters=(
            _filter("productType", "Only those that apply to it.", PRODUCT_TYPES),
            _filter("category", "Only those of this category.", CATEGORIES),
        ),
        answers={200: _json("The iterations.", IterationList)},
        problems=(400,),
    ),
    "get_iteration": Operation(
        tag="iterations",
        summary="Read one iteration",
        description="What it looks at and what it may change.",
        parameters=(Parameter("id", "path", "The iteration's id.", {"type": "string"}),),
        answers={200: _json("The iteration.", IterationDocument)},
        problems=(404,),
    ),
    "preview_workflow": Operation(
        tag="iterations",
        summary="Preview a workflow",
        description="Which iterations the mode `workflow` would run, and estimates of its calls, "
        "tokens and cost: at least, usually (what a submission reserves) and at most. They are for "
        "a story of `assumedStoryCharacters` and for replies of usual length, and leave out what "
        "a cache saves. Nothing is queued and nothing is paid.",
        parameters=(
            Parameter(
                "productType",
                "query",
                "What the story is for.",
                {"type": "string", "enum": [*PRODUCT_TYPES]},
                is_required=True,
            ),
            Parameter(
                "quality",
                "query",
                "Which models write and review.",
                {"type": "string", "enum": [*PRESETS], "default": DEFAULT_QUALITY},
            ),
            Parameter(
                "model",
                "query",
                "One model for everything, instead of a quality.",
                {"type": "string"},
            ),
            Parameter(
                "verify",
                "query",
                "Whether a second call reviews each iteration.",
                {"type": "boolean", "default": True},
            ),
        ),
        answers={200: _json("What would happen.", WorkflowPreviewDocument)},
        problems=(400,),
    ),
    "list_dead_letters": Operation(
        tag="admin",
        summary="List failed jobs",
        description="Pages of everybody's failed jobs, newest first: whose they are and why they "
        "failed, not what they are about.",
        parameters=(
            Parameter(
                "code",
                "query",
                "Only jobs that failed with this code.",
                {"type": "string", "pattern": ERROR_CODE_PATTERN},
            ),
            *_PAGING,
        ),
        answers={200: _json("A page.", DeadLetterList)},
        problems=(400,),
    ),
    "redrive_dead_letters": Operation(
        tag="admin",
        summary="Redrive failed jobs",
        description="Queues failed jobs again, whoever owns them: those named, or some that "
        "failed with the same code. Says which, and why not the others.",
        body=RedriveOrder,
        answers={202: _json("What became of each job.", RedriveReport)},
        problems=(400, 408, 413, 415),
    ),
    "get_health": Operation(
        tag="service",
        summary="Ask whether the process is alive",
        description="Depends on no other server.",
        answers={200: _json("It is.", Health)},
    ),
    "get_readiness": Operation(
        tag="service",
        summary="Ask whether requests can be served",
        description="Needs Postgres; without Redis the service is ready but degraded.",
        answers={
            200: _json("They can.", Readiness),
            503: _json("Postgres does not answer.", Readiness),
        },
    ),
    "get_version": Operation(
        tag="service",
        summary="Ask what this is",
        description="Name and version of the service.",
        answers={200: _json("What it is.", Version)},
    ),
    "get_openapi": Operation(
        tag="service",
        summary="Read this description",
        description="The OpenAPI document.",
        answers={200: Answer("This document.", {JSON: None})},
    ),
}
