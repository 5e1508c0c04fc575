"""What refusals are called: titles and codes by status, and the codes of failed jobs."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

# As RFC 9110 has them; the standard library of an older Python has others.
_RENAMED: Final[Mapping[int, str]] = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}

CODES: Final[Mapping[int, Sequence[str]]] = {
    400: ("VALIDATION_ERROR", "TOO_MANY_ITERATIONS", "UNKNOWN_ITERATION", "UNKNOWN_MODEL"),
    401: ("UNAUTHORIZED",),
    403: ("FORBIDDEN",),
    404: ("NOT_FOUND",),
    405: ("METHOD_NOT_ALLOWED",),
    406: ("NOT_ACCEPTABLE",),
    408: ("REQUEST_TIMEOUT",),
    409: ("JOB_FINISHED", "JOB_NOT_ENDED", "JOB_NOT_FAILED", "IDEMPOTENCY_IN_FLIGHT"),
    413: ("STORY_TOO_LARGE", "CONTENT_TOO_LARGE"),
    415: ("UNSUPPORTED_MEDIA_TYPE",),
    422: ("IDEMPOTENCY_CONFLICT",),
    429: (
        "RATE_LIMIT_EXCEEDED",
        "CONCURRENT_JOB_LIMIT",
        "DAILY_QUOTA_EXCEEDED",
        "QUEUE_FULL",
    ),
    500: ("INTERNAL_ERROR",),
    503: ("UNAVAILABLE",),
}

JOB_CODES: Final[Sequence[str]] = (
    "PROCESSING_ERROR",
    "MODEL_REFUSED",
    "MODEL_OUTPUT_INVALID",
    "MODEL_UNAVAILABLE",
    "ATTEMPTS_EXHAUSTED",
    "WORKER_LOST",
    "DEADLINE_EXCEEDED",
)
JOB_CODES_TOLD: Final = f"{', '.join(JOB_CODES)}; an agent that was installed may have others"


def title_of(status: int) -> str:
    """Return the name of a status, the same on every version of Python."""
    return _RENAMED.get(status) or HTTPStatus(status).phrase


def usual_code(status: int) -> str:
    """Return the code of a refusal about which no more is known than its status."""
    if status == HTTPStatus.BAD_REQUEST:
        return "VALIDATION_ERROR"
    return title_of(status).upper().replace(" ", "_")
