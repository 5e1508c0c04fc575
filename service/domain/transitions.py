"""What happens to a job next, as a pure function of how its attempt ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias, assert_never

from service.domain.job import Job, JobStatus, JsonObject
from service.domain.outcome import (
    Failed,
    Outcome,
    OutOfQuota,
    Stopped,
    Succeeded,
    Superseded,
)
from service.domain.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Complete:
    """processing -> completed."""

    result: JsonObject


@dataclass(frozen=True, slots=True)
class Fail:
    """processing -> failed."""

    code: str
    message: str
    retryable: bool = False

    def as_json(self) -> JsonObject:
        """`error` as the API shows it."""
        return {"code": self.code, "message": self.message, "retryable": self.retryable}


@dataclass(frozen=True, slots=True)
class Retry:
    """processing -> queued after `delay` seconds, using up one error of the budget."""

    delay: float
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class HandBack:
    """processing -> queued at once, free of charge: a deploy never uses up a job's retries."""


@dataclass(frozen=True, slots=True)
class Postpone:
    """processing -> queued after `delay` seconds, which its deadline waits as well."""

    delay: float


@dataclass(frozen=True, slots=True)
class Abandon:
    """Write nothing: the job belongs to somebody else now."""


Transition: TypeAlias = Complete | Fail | Retry | HandBack | Postpone | Abandon


# Errors that say nothing against trying the same job again by hand.
_REDRIVABLE: Final = frozenset({"DEADLINE_EXCEEDED", "PROCESSING_ERROR"})


def decide(job: Job, outcome: Outcome, policy: RetryPolicy, *, jitter: float) -> Transition:
    """Return the one transition that follows from how the attempt ended."""
    match outcome:
        case Succeeded(result):
            return Complete(result)
        case Failed() as failed:
            return _after_failure(job, failed, policy, jitter)
        case Stopped():
            return HandBack()
        case OutOfQuota(seconds):
            return Postpone(seconds)
        case Superseded():
            return Abandon()
        case _:
            assert_never(outcome)


def _after_failure(job: Job, failed: Failed, policy: RetryPolicy, jitter: float) -> Transition:
    if not failed.retryable:
        return Fail(failed.code, failed.message, retryable=failed.code in _REDRIVABLE)
    errors = job.error_count + 1
    if errors >= policy.max_errors:
        message = f"gave up after {errors} attempts; the last error was {failed.code}: "
        return Fail("ATTEMPTS_EXHAUSTED", message + failed.message, retryable=True)
    if failed.needs_operator:
        delay = policy.delay_for_operator(jitter)
    else:
        delay = policy.delay(errors, jitter, failed.retry_after)
    return Retry(delay, failed.code, failed.message)


class Trigger(StrEnum):
    """What may move a job from one status to another."""

    CLAIMED = "claimed"
    COMPLETED = "completed"
    FAILED = "failed"
    RETRIED = "retried"
    HANDED_BACK = "handed_back"
    POSTPONED = "postponed"
    RECOVERED = "recovered"
    CANCELLED = "cancelled"
    REDRIVEN = "redriven"


TRANSITIONS: Final[Mapping[tuple[JobStatus, Trigger], JobStatus]] = {
    (JobStatus.QUEUED, Trigger.CLAIMED): JobStatus.PROCESSING,
    (JobStatus.QUEUED, Trigger.FAILED): JobStatus.FAILED,
    (JobStatus.QUEUED, Trigger.CANCELLED): JobStatus.CANCELLED,
    (JobStatus.PROCESSING, Trigger.CLAIMED): JobStatus.PROCESSING,
    (JobStatus.PROCESSING, Trigger.COMPLETED): JobStatus.COMPLETED,
    (JobStatus.PROCESSING, Trigger.FAILED): JobStatus.FAILED,
    (JobStatus.PROCESSING, Trigger.RETRIED): JobStatus.QUEUED,
    (JobStatus.PROCESSING, Trigger.HANDED_BACK): JobStatus.QUEUED,
    (JobStatus.PROCESSING, Trigger.POSTPONED): JobStatus.QUEUED,
    (JobStatus.PROCESSING, Trigger.RECOVERED): JobStatus.QUEUED,
    (JobStatus.PROCESSING, Trigger.CANCELLED): JobStatus.CANCELLED,
    (JobStatus.FAILED, Trigger.REDRIVEN): JobStatus.QUEUED,
}
