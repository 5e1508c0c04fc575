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

ADMIN_OPERATIONS: Final[Mapping[str, Operation]] = {
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
