"""What to do about a model call that Anthropic's API did not answer properly."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from service.domain.errors import FailureKind, ModelFailure

_LONGEST_WAIT = 3600.0
_CONFIGURATION_TYPES = frozenset({"authentication_error", "billing_error", "permission_error"})
_PERMANENT_TYPES = frozenset({"invalid_request_error", "not_found_error", "request_too_large"})
_CONFIGURATION_STATUSES = frozenset({401, 402, 403})
# What only the provider's customer can change, whatever status and type it comes with.
_CONFIGURATION_CODES = frozenset(
    {"contract_spend_limit_reached", "enforced_spend_limit_reached", "organization_on_hold"}
)
# These have no code of their own; a wording that changes makes them permanent failures.
_CONFIGURATION_MESSAGES = ("You have reached your specified", "Your credit balance is too low")
_RETRYABLE_STATUSES = frozenset({408, 409, 429})
_OVERLOAD_STATUSES = frozenset({429, 529})
_OVERLOAD_TYPES = frozenset({"rate_limit_error", "overloaded_error"})
_PLAIN_WORD = re.compile(r"[a-z_]{1,40}")


def transient(message: str) -> ModelFailure:
    """A failure that may not happen again."""
    return ModelFailure("MODEL_UNAVAILABLE", message, kind=FailureKind.TRANSIENT)


def misconfigured(message: str) -> ModelFailure:
    """A failure that every call will have until someone changes the configuration."""
    return ModelFailure("MODEL_UNAVAILABLE", message, kind=FailureKind.CONFIGURATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """What an answer says of an error; status 200 is an error event inside a stream.

    Everything but the status may be anything that JSON can hold.
    """

    status: int
    type: object = None
    code: object = None
    message: object = None


def failure_of(answer: ErrorAnswer, headers: Mapping[str, str]) -> ModelFailure:
    """Classify an error answer.

    The failure's message names the status, the type, the code and the request, and quotes
    nothing else.
    """
    message = _describe(answer, headers.get("request-id"))
    if _is_configuration(answer):
        return misconfigured(message)
    if _is_permanent(answer):
        return ModelFailure("PROCESSING_ERROR", message)
    return ModelFailure(
        "MODEL_UNAVAILABLE",
        message,
        kind=FailureKind.TRANSIENT,
        retry_after=retry_after_seconds(headers),
        is_overload=answer.status in _OVERLOAD_STATUSES or _is_one_of(answer.type, _OVERLOAD_TYPES),
    )


def _is_configuration(answer: ErrorAnswer) -> bool:
    said = answer.message if isinstance(answer.message, str) else ""
    return (
        answer.status in _CONFIGURATION_STATUSES
        or _is_one_of(answer.type, _CONFIGURATION_TYPES)
        or _is_one_of(answer.code, _CONFIGURATION_CODES)
        or said.startswith(_CONFIGURATION_MESSAGES)
    )


def _is_permanent(answer: ErrorAnswer) -> bool:
    if answer.status < 300:
        return _is_one_of(answer.type, _PERMANENT_TYPES)
    return answer.status < 500 and answer.status not in _RETRYABLE_STATUSES


def _is_one_of(value: object, words: frozenset[str]) -> bool:
    return isinstance(value, str) and value in words


def _describe(answer: ErrorAnswer, request_id: str | None) -> str:
    known = answer.status >= 300
    what = f"status {answer.status}" if known else "an error in the middle of its reply"
    words = (answer.type, answer.code)
    shown = [word for word in words if isinstance(word, str) and _PLAIN_WORD.fullmatch(word)]
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
