"""Which limit a submission has run into, and what its sender can do about it."""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Final

from service.domain.errors import ServiceError
from service.domain.tiers import Tier

_SOON: Final = 5.0
_QUEUE_MOVES: Final = 10.0


class Verdict(StrEnum):
    """What was decided about a submission; the last four are refusals.

    `bound`: its idempotency key is another job's; `in_flight`: whose, is being decided.
    """

    ACCEPTED = "accepted"
    BOUND = "bound"
    IN_FLIGHT = "in_flight"
    QUEUE_FULL = "queue_full"
    CONCURRENT_JOBS = "concurrent_jobs"
    REQUESTS_PER_DAY = "requests_per_day"
    TOKENS_PER_DAY = "tokens_per_day"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How much of the limits was taken when a submission was decided.

    `tokens` are those used today and those that jobs which have not ended reserved today;
    `day_left` is how many seconds are left until midnight UTC.
    """

    active: int
    requests: int
    tokens: int
    day_left: float


class LimitReached(ServiceError):
    """A limit leaves no room for the submission now; `retry_after` is in seconds."""

    def __init__(self, code: str, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = ceil(retry_after)


def refusal(verdict: Verdict, tier: Tier, standing: Standing, wanted: int) -> LimitReached | None:
    """Say why a submission that wants so many tokens is refused; None if it is not."""
    match verdict:
        case Verdict.QUEUE_FULL:
            message = "the queue of the service is full; try again soon"
            return LimitReached("QUEUE_FULL", message, retry_after=_QUEUE_MOVES)
        case Verdict.CONCURRENT_JOBS:
            message = (
                f"jobs of yours that are queued or processing: {standing.active} of "
                f"{tier.concurrent_jobs} that are allowed; wait until one ends, or cancel one"
            )
            return LimitReached("CONCURRENT_JOB_LIMIT", message, retry_after=_SOON)
        case Verdict.REQUESTS_PER_DAY:
            message = (
                f"{standing.requests} of {tier.requests_per_day} jobs of this day were submitted; "
                "days end at midnight UTC"
            )
        case Verdict.TOKENS_PER_DAY if wanted > (tier.tokens_per_day or 0):
            message = (
                f"the job is expected to use {wanted} tokens, more than the {tier.tokens_per_day} "
                "of a whole day; a shorter story or fewer iterations use less"
            )
        case Verdict.TOKENS_PER_DAY:
            message = (
                f"the job is expected to use {wanted} tokens; {standing.tokens} of the "
                f"{tier.tokens_per_day} of this day are used or reserved, and days end at midnight "
                "UTC"
            )
        case _:
            return None
    return LimitReached("DAILY_QUOTA_EXCEEDED", message, retry_after=standing.day_left)
