"""How an attempt ended."""

from dataclasses import dataclass
from typing import TypeAlias

from service.domain.job import JsonObject


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The agent returned a result."""

    result: JsonObject


@dataclass(frozen=True, slots=True)
class Failed:
    """The agent or a model call failed; `retry_after` is seconds the upstream asked for.

    `needs_operator`: it fails for every job until somebody changes the configuration.
    """

    code: str
    message: str
    retryable: bool
    retry_after: float | None = None
    needs_operator: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """This process is shutting down and the attempt has not ended."""


@dataclass(frozen=True, slots=True)
class OutOfQuota:
    """The owner's tokens of the day are used up; they return in `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Superseded:
    """The job is no longer this attempt's: cancelled, or taken by another worker."""


Outcome: TypeAlias = Succeeded | Failed | Stopped | OutOfQuota | Superseded
