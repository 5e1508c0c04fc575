"""What the operations on jobs take, answer and refuse."""

from collections.abc import Mapping
from typing import Final

from service.api.documents import (
    AcceptedJob,
    DeletedJob,
    FinishedJob,
    JobDocument,
    JobPage,
    RedrivenJob,
    StreamedEvent,
)
from service.api.job_examples import JOB_ID
from service.api.operation import (
    EVENTS,
    JSON,
    MARKDOWN,
    PAGING,
    Answer,
    Operation,
    Parameter,
    choice,
    json_answer,
)
from service.api.parameters import LONGEST_WAIT
from service.api.submission import Submission
from service.domain.job import JobStatus

_JOB_ID = Parameter(
    "id", "path", "The job's id.", {"type": "string", "format": "uuid"}, example=str(JOB_ID)
)
_WAIT = Parameter(
    "wait",
    "query",
    "Wait up to so many seconds for the job to end before answering.",
    {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
)
_EVENT_ID = {"type": "string", "pattern": "^[0-9]{1,10}-[0-9]{1,12}$"}

JOB_OPERATIONS: Final[Mapping[str, Operation]] = {
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
            202: json_answer("The job is queued.", AcceptedJob),
            200: json_answer("The job ended within `wait`.", FinishedJob),
        },
        problems=(400, 408, 409, 413, 415, 422),
    ),
    "list_jobs": Operation(
        tag="jobs",
        summary="List jobs",
        description="Pages of the caller's jobs, newest first, without their results.",
        parameters=(
            choice("status", "Only jobs of this status.", tuple(JobStatus)),
            *PAGING,
        ),
        answers={200: json_answer("A page.", JobPage)},
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
        answers={200: json_answer("The job is cancelled, or gone.", DeletedJob)},
        problems=(400, 404, 409),
    ),
    "redrive_job": Operation(
        tag="jobs",
        summary="Redrive a failed job",
        description="Queues a failed job again, with new budgets and a new deadline. What it has "
        "finished is kept and not paid again, so that an error that is not `retryable` comes back.",
        parameters=(_JOB_ID,),
        answers={202: json_answer("The job is queued.", RedrivenJob)},
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
            Parameter(
                "Last-Event-ID",
                "header",
                "The same, as browsers send it; what is no id of an event is ignored.",
                {"type": "string"},
            ),
        ),
        answers={
            200: Answer("The events.", {EVENTS: StreamedEvent}),
            204: Answer("The last event has been seen."),
        },
        problems=(400, 404),
    ),
}
