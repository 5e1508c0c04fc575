"""Errors as RFC 9457 problem documents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil

from aiohttp import web

from service.api.documents import ProblemDocument, ProblemError
from service.api.statuses import title_of, usual_code
from service.domain.acceptance import LimitReached
from service.domain.errors import (
    FieldError,
    IdempotencyConflict,
    IdempotencyInFlight,
    InvalidInput,
    JobFinished,
    JobNotEnded,
    JobNotFailed,
    NotFound,
    ServiceError,
    Unavailable,
)

CONTENT_TYPE = "application/problem+json"
_TYPE = "urn:user-story-service:problem:"
_LONGEST_DETAIL = 1000
_MOST_ERRORS = 50
_CONFLICTS: Mapping[type[ServiceError], tuple[int, str]] = {
    JobFinished: (409, "JOB_FINISHED"),
    JobNotEnded: (409, "JOB_NOT_ENDED"),
    JobNotFailed: (409, "JOB_NOT_FAILED"),
    IdempotencyConflict: (422, "IDEMPOTENCY_CONFLICT"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem(ServiceError):
    """An answer that is an error and that no error of the domain stands for."""

    status: int
    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def respond(self, instance: str) -> web.Response:
        """Answer with the problem document; `instance` is the path of the request."""
        document = self.document(instance)
        return document.respond(status=self.status, headers=self.headers, content_type=CONTENT_TYPE)

    def document(self, instance: str) -> ProblemDocument:
        """Write the problem document."""
        return ProblemDocument(
            type=_TYPE + self.code.lower().replace("_", "-"),
            title=title_of(self.status),
            status=self.status,
            detail=self.detail[:_LONGEST_DETAIL],
            # A path may hold bytes that are no text.
            instance=instance.encode("ascii", "backslashreplace").decode(),
            code=self.code,
            errors=[
                ProblemError(field=error.field, message=error.message)
                for error in self.errors[:_MOST_ERRORS]
            ],
            max_bytes=self.limits.get("maxBytes"),
            max_iterations=self.limits.get("maxIterations"),
        )


def unauthorized(detail: str) -> Problem:
    """Return 401 with the challenge that HTTP asks for."""
    challenge = {"WWW-Authenticate": 'Bearer realm="user-story-service"'}
    return Problem(status=401, code="UNAUTHORIZED", detail=detail, headers=challenge)


def forbidden(scope: str) -> Problem:
    """Return 403 for a caller without the scope."""
    return Problem(status=403, code="FORBIDDEN", detail=f"this needs the scope {scope}")


def too_many_requests(detail: str, retry_after: float) -> Problem:
    """Return 429 for a caller that asks too often, or has too much open; in seconds."""
    return Problem(
        status=429,
        code="RATE_LIMIT_EXCEEDED",
        detail=detail,
        headers={"Retry-After": str(max(1, ceil(retry_after)))},
    )


INTERNAL_ERROR = Problem(
    status=500,
    code="INTERNAL_ERROR",
    detail="something went wrong here; the X-Request-ID identifies this request to the operator",
)


def problem_of(error: Exception) -> Problem:
    """Say what an error means to the caller; what is unknown shows nothing of itself."""
    match error:
        case Problem():
            return error
        case InvalidInput():
            return Problem(
                status=error.status,
                code=error.code,
                detail=str(error),
                errors=error.errors,
                limits=error.limits,
            )
        case NotFound():
            return Problem(status=404, code="NOT_FOUND", detail="there is no such job for this key")
        case JobFinished() | JobNotEnded() | JobNotFailed() | IdempotencyConflict():
            status, code = _CONFLICTS[type(error)]
            return Problem(status=status, code=code, detail=str(error))
        case IdempotencyInFlight() | LimitReached() | Unavailable():
            return _later(error)
        case web.HTTPClientError():
            return _of_http(error)
        case _:
            return INTERNAL_ERROR


def _later(error: IdempotencyInFlight | LimitReached | Unavailable) -> Problem:
    match error:
        case IdempotencyInFlight():
            status, code, detail, seconds = 409, "IDEMPOTENCY_IN_FLIGHT", str(error), 1.0
        case LimitReached():
            status, code, detail, seconds = 429, error.code, str(error), error.retry_after
        case Unavailable():
            detail = "a server this needs does not answer; try again soon"
            status, code, seconds = 503, "UNAVAILABLE", error.retry_after
    headers = {"Retry-After": str(max(1, ceil(seconds)))}
    return Problem(status=status, code=code, detail=detail, headers=headers)


def _of_http(error: web.HTTPClientError) -> Problem:
    allow = error.headers.get("Allow")
    match error.status:
        case 404:
            detail = "there is nothing at this path; /docs lists what there is"
        case 405 if allow:
            detail = f"this method is not allowed here; use {allow.replace(',', ', ')}"
        case status:
            detail = HTTPStatus(status).description or title_of(status)
    return Problem(
        status=error.status,
        code=usual_code(error.status),
        detail=detail,
        headers={"Allow": allow} if allow else {},
    )
