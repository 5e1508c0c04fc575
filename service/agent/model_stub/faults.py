"""What can go wrong with a call to a model, as scripted by tests and chaos runs."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from service.domain.job import JsonObject


class FaultKind(StrEnum):
    """The ways in which a call goes wrong."""

    REJECT = "reject"
    """Answer with `status` and an error body instead of a stream."""
    ERROR_EVENT = "error_event"
    """Send an error event of type `error_type` inside the stream."""
    ABORT = "abort"
    """Drop the connection."""
    END_EARLY = "end_early"
    """End the response properly, without `message_stop`."""
    STALL = "stall"
    """Send nothing more and keep the connection open."""
    DRIP = "drip"
    """Wait `delay` seconds before every event."""
    REFUSE = "refuse"
    """Finish with the stop reason `refusal` and no text."""
    CUT = "cut"
    """Finish with the stop reason `max_tokens` in the middle of the text."""
    MALFORMED_OUTPUT = "malformed_output"
    """Finish normally with text that is not JSON."""
    MALFORMED_EVENT = "malformed_event"
    """Send an event whose data is not JSON."""
    NOT_UTF8 = "not_utf8"
    """Send an event whose text is not UTF-8."""
    REPEATED_TEXT = "repeated_text"
    """Send the text so far once more."""
    NO_CONTENT = "no_content"
    """Finish normally without any content."""
    FLOOD = "flood"
    """Send 100 MB of text in between."""
    GIANT_EVENT = "giant_event"
    """Send one event of 100 MB."""
    UNKNOWN_EVENTS = "unknown_events"
    """Mix in events, deltas and blocks that no client can know."""
    NO_USAGE = "no_usage"
    """Leave out every usage."""
    NOT_A_STREAM = "not_a_stream"
    """Answer 200 with a web page, as a misplaced proxy does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault; `after` is how many pieces of text are sent before it happens.

    `after=None` is before the response begins, for `ABORT` and `STALL`. More pieces than there
    are is after the whole reply, for `STALL`, or all of it but `message_stop`, for `END_EARLY`.
    What begins with `error_`, `status`, `message` and `retry_after` are those of an error.
    """

    kind: FaultKind
    after: int | None = 2
    status: int = 500
    error_type: str | None = None
    error_code: str | None = None
    message: str = "The stub was told to fail."
    retry_after: str | None = None
    delay: float = 0.0


FaultPlan: TypeAlias = Callable[[JsonObject], Fault | None]

ERROR_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_type_of(fault: Fault) -> str:
    """Return the error type that the fault shows."""
    if fault.error_type is not None:
        return fault.error_type
    if fault.kind is FaultKind.ERROR_EVENT:
        return "overloaded_error"
    return ERROR_TYPES.get(fault.status, "api_error")


def random_faults(rates: Mapping[Fault, float], seed: int) -> FaultPlan:
    """Plan faults at random, each at its rate per call; the same seed gives the same sequence."""
    if sum(rates.values()) > 1:
        raise ValueError("the rates of all faults together are at most 1")
    dice = random.Random(seed)  # noqa: S311 - a reproducible test, no secret

    def plan(_: JsonObject) -> Fault | None:
        roll = dice.random()
        for fault, rate in rates.items():
            roll -= rate
            if roll < 0:
                return fault
        return None

    return plan
