"""What can go wrong with a call to the model, and what must come of it: the data of FAULTS.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from service.agent.model_stub import Fault, FaultKind


class Booked(StrEnum):
    """What the ledger says of a call's usage, compared with what the model's side has billed."""

    EXACT = "booked as billed"
    READ = "booked with its output estimated"
    GUESSED = "booked with an estimate"
    NOTHING = "nothing booked"


@dataclass(frozen=True, slots=True)
class Call:
    """One row of the ledger; `ending` is `finished` or `failed`."""

    step: str
    ending: str
    booked: Booked

    def __str__(self) -> str:
        return f"{self.step} {self.ending}, {self.booked}"


@dataclass(frozen=True, slots=True)
class Wait:
    """One `retrying` event: how long, in seconds, the job waits at least and at most."""

    least: float
    most: float

    def __str__(self) -> str:
        if self.least == self.most:
            return f"after {self.least:g} s"
        if self.least:
            return f"after {self.least:g} to {self.most:g} s"
        return f"within {self.most:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFault:
    """The first calls meet `faults`, one each; those after them go well.

    `error` is the code with which the job fails, and None when it completes; `says` is part of
    what the user reads. `settings` are the worker's. `reaches` is False where no call arrives.
    """

    name: str
    faults: Sequence[Fault | None]
    calls: Sequence[Call]
    waits: Sequence[Wait] = ()
    error: str | None = None
    says: str = ""
    review: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    reaches: bool = True


FINISHED: Final = "finished"
FAILED: Final = "failed"
# What follows a draft that went well.
VERIFIED: Final = Call("verify", FINISHED, Booked.EXACT)
DONE: Final = (Call("draft", FINISHED, Booked.EXACT), VERIFIED)

# The back-off after the first and the second error, and what an upstream can make of it.
FIRST: Final = Wait(0, 2)
SECOND: Final = Wait(0, 4)
LONGEST: Final = Wait(300, 300)
OPERATOR: Final = Wait(300, 600)


def reject(status: int, **more: Any) -> Fault:
    """An error answer instead of a reply."""
    return Fault(kind=FaultKind.REJECT, status=status, **more)


def broken(kind: FaultKind, **more: Any) -> Fault:
    """A reply that goes wrong."""
    return Fault(kind=kind, **more)


def _passing(
    name: str, fault: Fault, booked: Booked, wait: Wait = FIRST, **more: Any
) -> ModelFault:
    """Build a fault of one call after which the job is tried again and completes."""
    calls = (Call("draft", FAILED, booked), *DONE)
    return ModelFault(name=name, faults=[fault], calls=calls, waits=[wait], **more)


def _final(name: str, fault: Fault, error: str, says: str, booked: Booked) -> ModelFault:
    """Build a fault after which the job has failed for good."""
    calls = [Call("draft", FAILED, booked)]
    return ModelFault(name=name, faults=[fault], calls=calls, error=error, says=says)


def _lasting(
    name: str,
    fault: Fault,
    says: str,
    waits: Sequence[Wait],
    booked: Booked = Booked.NOTHING,
    **more: Any,
) -> ModelFault:
    """Build a fault that every call meets, until the budget of errors is used up."""
    return ModelFault(
        name=name,
        faults=[fault] * 3,
        calls=[Call("draft", FAILED, booked)] * 3,
        waits=waits,
        error="ATTEMPTS_EXHAUSTED",
        says=says,
        **more,
    )


_MENDED: Final = (
    "gave up after 3 attempts; the last error was MODEL_UNAVAILABLE: the model answered"
)

REFUSED_CALLS: Final = (
    _passing("429 without Retry-After", reject(429), Booked.NOTHING),
    _passing("429, Retry-After: 0", reject(429, retry_after="0"), Booked.NOTHING),
    _passing("429, Retry-After: 1", reject(429, retry_after="1"), Booked.NOTHING, Wait(1, 2)),
    _passing("429, Retry-After: 1e9", reject(429, retry_after="1e9"), Booked.NOTHING, LONGEST),
    _passing("429, Retry-After: soon", reject(429, retry_after="soon"), Booked.NOTHING),
    _passing(
        "429, Retry-After: a date in the past",
        reject(429, retry_after="Wed, 01 Jan 2020 00:00:00 GMT"),
        Booked.NOTHING,
    ),
    _passing(
        "429, Retry-After: a date in the year 9999",
        reject(429, retry_after="Fri, 31 Dec 9999 23:59:59 GMT"),
        Booked.NOTHING,
        LONGEST,
    ),
    _lasting(
        "429 with every call", reject(429), f"{_MENDED} with status 429 (rate_limit_error",
        [FIRST, SECOND],
    ),
    _passing("500", reject(500), Booked.NOTHING),
    _passing("502 with a page of 9 MB", reject(502, message="x" * (9 << 20)), Booked.GUESSED),
    _passing("504", reject(504), Booked.NOTHING),
    _passing("529", reject(529), Booked.NOTHING),
    _lasting(
        "529 with every call", reject(529), f"{_MENDED} with status 529 (overloaded_error",
        [FIRST, SECOND],
    ),
    _final(
        "400", reject(400), "PROCESSING_ERROR",
        "the model answered with status 400 (invalid_request_error", Booked.NOTHING,
    ),
    _final(
        "404: the model is retired", reject(404), "PROCESSING_ERROR",
        "the model answered with status 404 (not_found_error", Booked.NOTHING,
    ),
    _final(
        "413", reject(413), "PROCESSING_ERROR",
        "the model answered with status 413 (request_too_large", Booked.NOTHING,
    ),
)  # fmt: skip

NEEDS_OPERATOR: Final = (
    _passing("401, mended after one call", reject(401), Booked.NOTHING, OPERATOR),
    _lasting(
        "401 with every call", reject(401), f"{_MENDED} with status 401 (authentication_error",
        [OPERATOR, OPERATOR],
    ),
    _passing("402", reject(402), Booked.NOTHING, OPERATOR),
    _passing("403", reject(403), Booked.NOTHING, OPERATOR),
    _passing(
        "429 at the spend cap of the usage tier",
        reject(429, error_code="enforced_spend_limit_reached"),
        Booked.NOTHING,
        OPERATOR,
    ),
    _passing(
        "400 at one's own spend limit",
        reject(400, message="You have reached your specified API usage limits. You will regain"),
        Booked.NOTHING,
        OPERATOR,
    ),
)  # fmt: skip

BROKEN_REPLIES: Final = (
    _passing(
        "connection dropped before a reply", broken(FaultKind.ABORT, after=None), Booked.GUESSED
    ),
    _passing("connection dropped in mid-stream", broken(FaultKind.ABORT), Booked.READ),
    _passing("ends in mid-stream, no `message_stop`", broken(FaultKind.END_EARLY), Booked.READ),
    _passing(
        "all there but `message_stop`", broken(FaultKind.END_EARLY, after=1_000_000), Booked.EXACT
    ),
    _passing("`overloaded_error` inside a 200", broken(FaultKind.ERROR_EVENT), Booked.READ),
    _passing(
        "`api_error` inside a 200",
        broken(FaultKind.ERROR_EVENT, error_type="api_error"),
        Booked.READ,
    ),
    _final(
        "`invalid_request_error` inside a 200",
        broken(FaultKind.ERROR_EVENT, error_type="invalid_request_error"),
        "PROCESSING_ERROR",
        "an error in the middle of its reply (invalid_request_error",
        Booked.READ,
    ),
    _passing(
        "hangs without a byte",
        broken(FaultKind.STALL, after=None),
        Booked.GUESSED,
        settings={"model_idle_timeout": 1.0},
    ),
    _passing(
        "hangs in mid-stream",
        broken(FaultKind.STALL),
        Booked.READ,
        settings={"model_idle_timeout": 1.0},
    ),
    _passing(
        "drips too slowly to end in time",
        broken(FaultKind.DRIP, delay=0.3),
        Booked.READ,
        settings={"model_timeout": 2.0},
    ),
    _passing("an event that is not JSON", broken(FaultKind.MALFORMED_EVENT), Booked.READ),
    _passing("bytes that are not UTF-8", broken(FaultKind.NOT_UTF8), Booked.READ),
    _passing("one event of 100 MB", broken(FaultKind.GIANT_EVENT), Booked.READ),
    _passing("a web page instead of a stream", broken(FaultKind.NOT_A_STREAM), Booked.GUESSED),
    _final(
        "100 MB of text", broken(FaultKind.FLOOD), "MODEL_OUTPUT_INVALID",
        "the model's reply is longer than 1048576 bytes", Booked.READ,
    ),
    ModelFault(name="unknown events", faults=[broken(FaultKind.UNKNOWN_EVENTS)], calls=DONE),
    ModelFault(
        name="no usage",
        faults=[broken(FaultKind.NO_USAGE)],
        calls=[Call("draft", FINISHED, Booked.GUESSED), VERIFIED],
    ),
)  # fmt: skip

_REPAIRED: Final = (
    Call("draft", FINISHED, Booked.EXACT),
    Call("repair", FINISHED, Booked.EXACT),
    VERIFIED,
)


def _repaired(name: str, kind: FaultKind) -> ModelFault:
    return ModelFault(name=name, faults=[broken(kind)], calls=_REPAIRED)


_VERIFIED_BADLY: Final = "verification-invalid"

BAD_OUTPUT: Final = (
    _repaired("cut off at `max_tokens`", FaultKind.CUT),
    _repaired("output that is not JSON", FaultKind.MALFORMED_OUTPUT),
    _repaired("no content", FaultKind.NO_CONTENT),
    _repaired("chunks that come twice", FaultKind.REPEATED_TEXT),
    ModelFault(
        name="output that is not JSON, twice",
        faults=[broken(FaultKind.MALFORMED_OUTPUT)] * 2,
        calls=_REPAIRED[:2],
        error="MODEL_OUTPUT_INVALID",
        says="could not be used, even after a repair",
    ),
    ModelFault(
        name="refusal",
        faults=[broken(FaultKind.REFUSE)],
        calls=DONE[:1],
        error="MODEL_REFUSED",
        says="the model refused to work on the iteration validation",
    ),
    ModelFault(
        name="a verification that is not JSON",
        faults=[None, broken(FaultKind.MALFORMED_OUTPUT)],
        calls=DONE,
        review=_VERIFIED_BADLY,
    ),
    ModelFault(
        name="a verification that is refused",
        faults=[None, broken(FaultKind.REFUSE)],
        calls=DONE,
        review=_VERIFIED_BADLY,
    ),
    ModelFault(
        name="529 to a verification",
        faults=[None, reject(529)],
        calls=[DONE[0], Call("verify", FAILED, Booked.NOTHING), VERIFIED],
        waits=[FIRST],
    ),
)

# Nothing listens at the discard port, and the model's stub does not speak TLS.
_NO_ANSWER: Final = "the connection to the model failed (Connect"
UNREACHABLE: Final = (
    _lasting(
        "nobody listens", broken(FaultKind.ABORT), _NO_ANSWER, [FIRST, SECOND],
        settings={"anthropic_base_url": "http://127.0.0.1:9"}, reaches=False,
    ),
    _lasting(
        "TLS fails", broken(FaultKind.ABORT), _NO_ANSWER, [FIRST, SECOND],
        settings={"anthropic_base_url": "https://{address}"}, reaches=False,
    ),
)  # fmt: skip

GROUPS: Final[Mapping[str, Sequence[ModelFault]]] = {
    "The call is refused": REFUSED_CALLS,
    "The configuration must be changed": NEEDS_OPERATOR,
    "The reply breaks off or cannot be read": BROKEN_REPLIES,
    "The reply is complete and of no use": BAD_OUTPUT,
    "There is no connection": UNREACHABLE,
}
ALL: Final = tuple(fault for group in GROUPS.values() for fault in group)
