"""What the operations of those who operate the queue take, answer and refuse."""

from collections.abc import Mapping
from typing import Final

from service.api.dead_letter_documents import (
    ERROR_CODE_PATTERN,
    DeadLetterList,
    RedriveOrder,
    RedriveReport,
)
from service.api.operation import PAGING, Operation, Parameter, json_answer
from service.api.queue_documents import PauseOrder, PauseState, QueueDocument

ADMIN_OPERATIONS: Final[Mapping[str, Operation]] = {
    "get_queue": Operation(
        tag="admin",
        summary="Look at the queue",
        description="How many jobs wait, run, have failed and ended within the last hour, what the "
        "job streams hold, and whether the queue is paused.",
        answers={200: json_answer("The queue.", QueueDocument)},
    ),
    "pause_queue": Operation(
        tag="admin",
        summary="Pause the queue",
        description="Within two seconds no worker starts another job. Running jobs go on; jobs are "
        "accepted, read and cancelled as ever, and fail at their deadlines as ever. It uses up no "
        "job's budgets. Pausing again changes nothing.",
        body=PauseOrder,
        is_body_required=False,
        answers={200: json_answer("The pause.", PauseState)},
        problems=(400, 408, 413, 415),
    ),
    "resume_queue": Operation(
        tag="admin",
        summary="Resume the queue",
        description="Within two seconds all workers start jobs again. Resuming a queue that is "
        "not paused changes nothing.",
        answers={200: json_answer("It is not paused.", PauseState)},
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
            *PAGING,
        ),
        answers={200: json_answer("A page.", DeadLetterList)},
        problems=(400,),
    ),
    "redrive_dead_letters": Operation(
        tag="admin",
        summary="Redrive failed jobs",
        description="Queues failed jobs again, whoever owns them: those named, or some that "
        "failed with the same code. Says which, and why not the others.",
        body=RedriveOrder,
        answers={202: json_answer("What became of each job.", RedriveReport)},
        problems=(400, 408, 413, 415),
    ),
}
