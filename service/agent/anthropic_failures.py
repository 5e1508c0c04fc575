"""What to do about a model call that Anthropic's API did not answer properly."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from service.domain.errors import FailureKind, ModelFailure

_LONGEST_WAIT = 3600.0
_CONFIGURATION_TYPES = frozenset({"authentication_error", "billing_error", "permission_error"})
_PERMANENT_TYPES = frozenset({"invalid_request_error", "not_found_error", "request_too_large"})
_CONFIGURATION_STATUSES = frozenset({401, 402, 403})
_RETRYABLE_STATUSES = frozenset({408, 409, 429})
_PLAIN_TYPE = re.compile(r"[a-z_]{1,40}")


def transient(message: str, retry_after: float | None = None) -> ModelFailure:
    """A failure that may not happen again."""
    return ModelFailure(
        "MODEL_UNAVAILABLE", message, kind=FailureKind.TRANSIENT, retry_after=retry_after
    )


def misconfigured(message: str) -> ModelFailure:
    """A failure that every call will have until someone changes the configuration."""
    return ModelFailure("MODEL_UNAVAILABLE", message, kind=FailureKind.CONFIGURATION)


def failure_of_status(status: int, error_type: object, headers: Mapping[str, str]) -> ModelFailure:
    """Classify an error answer; status 200 is an error event inside a stream.

    The message names the status, the type and the request, and quotes nothing else.
    """
    known_type = error_type if isinstance(error_type, str) else ""
    message = _describe(status, known_type, headers.get("request-id"))
    if known_type in _CONFIGURATION_TYPES or status in _CONFIGURATION_STATUSES:
        return misconfigured(message)
    if _is_permanent(status, known_type):
        return ModelFailure("PROCESSING_ERROR", message)
    return transient(message, retry_after_seconds(headers))


def _is_permanent(status: int, error_type: str) -> bool:
    if status < 300:
        return error_type in _PERMANENT_TYPES
    return status < 500 and status not in _RETRYABLE_STATUSES


def _describe(status: int, error_type: str, request_id: str | None) -> str:
    what = f"status {status}" if status >= 300 else "an error in the middle of its reply"
    shown = [error_type] if _PLAIN_TYPE.fullmatch(error_type) else []
    if request_id and request_id.isprintable():
        shown.append(f"request {request_id[:64]}")
    return f"the model answered with {what}" + (f" ({', '.join(shown)})" if shown else "")


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Read how long to wait, at most an hour; None if the server did not say so legibly."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    given = headers.get("retry-after")
    seconds = _number(given)
    if seconds is not None:
        return _bounded(seconds)
    until, now = _time(given), _time(headers.get("date")) or datetime.now(UTC)
    return None if until is None else _bounded((until - now).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _time(text: str | None) -> datetime | None:
    try:
        time = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), _LONGEST_WAIT)
