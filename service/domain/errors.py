"""Errors named by what the caller can do about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

_ECHO = 80


class ServiceError(Exception):
    """Every error this service raises on purpose."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field: its JSON path and what is wrong with it."""

    field: str
    message: str


def json_path(location: Sequence[int | str]) -> str:
    """Write a location as `options.names[2]`; the names in it may be the caller's."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part[:_ECHO]}" if path else part[:_ECHO]
    return path


class InvalidInput(ServiceError):
    """The caller sent something that can never be accepted as it stands."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "VALIDATION_ERROR",
        status: int = 400,
        errors: Sequence[FieldError] = (),
        limits: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.errors = tuple(errors)
        self.limits = dict(limits or {})

    def within(self, place: str) -> "InvalidInput":
        """Return the same refusal of fields that are part of `place`."""
        return InvalidInput(
            str(self),
            code=self.code,
            status=self.status,
            errors=[FieldError(f"{place}.{each.field}", each.message) for each in self.errors],
            limits=self.limits,
        )


class NotFound(ServiceError):
    """Nothing of that id belongs to the caller."""


class JobFinished(ServiceError):
    """The job has already ended, so it can no longer be changed that way."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the job is already {status}")
        self.status = status


class JobNotFailed(ServiceError):
    """The job has not failed, so it cannot be redriven."""

    def __init__(self, status: str) -> None:
        super().__init__(f"only failed jobs can be redriven: this one is {status}")
        self.status = status


class JobNotEnded(ServiceError):
    """The job has not ended, so it cannot be purged."""

    def __init__(self, status: str) -> None:
        super().__init__(f"only jobs that have ended can be purged: this one is {status}")
        self.status = status


class IdempotencyConflict(ServiceError):
    """The idempotency key was used before with another body."""


class IdempotencyInFlight(ServiceError):
    """Another request with this idempotency key has not been decided yet."""


class Unavailable(ServiceError):
    """A server this needs does not answer; the same call may succeed later."""

    def __init__(self, what: str, *, retry_after: float = 2.0) -> None:
        super().__init__(f"{what} is unavailable")
        self.what = what
        self.retry_after = retry_after


class LeaseLost(ServiceError):
    """Another attempt owns the job now, so this one must stop."""


class FailureKind(StrEnum):
    """What to do about a failed model call."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    CONFIGURATION = "configuration"


class JobFailure(ServiceError):
    """An attempt ended without a result.

    `code` is the job error code users see; `retry_after` is in seconds and is
    what the upstream asked for, not yet bounded.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        kind: FailureKind = FailureKind.PERMANENT,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.kind = kind
        self.retry_after = retry_after


class ModelFailure(JobFailure):
    """A model call ended without a usable reply; what it used so far is in its meter.

    `is_overload` says that the upstream wants fewer calls, from everybody.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        kind: FailureKind = FailureKind.PERMANENT,
        retry_after: float | None = None,
        is_overload: bool = False,
    ) -> None:
        super().__init__(code, message, kind=kind, retry_after=retry_after)
        self.is_overload = is_overload
