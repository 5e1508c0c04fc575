"""One start of a job: its fence, its delivery, its checkpoints, the verdict of its claim."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from service.domain.job import Job, JsonObject
from service.domain.usage import Usage


@dataclass(frozen=True, slots=True, order=True)
class Fence:
    """The (job, attempt) pair that every guarded write carries."""

    job_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One handing-over of a stream entry to this process."""

    stream: str
    entry_id: str
    job_id: UUID
    trace_parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A finished model call, written down; its step is never paid again."""

    step: str
    text: str
    stop_reason: str
    model: str
    usage: Usage
    cost_usd: Decimal | None
    duration_ms: int

    def as_json(self) -> JsonObject:
        """The stored form."""
        return {
            "text": self.text,
            "stopReason": self.stop_reason,
            "model": self.model,
            "usage": self.usage.as_json(),
            "costUsd": None if self.cost_usd is None else str(self.cost_usd),
            "durationMs": self.duration_ms,
        }

    @classmethod
    def from_json(cls, step: str, data: dict[str, Any]) -> "Checkpoint":
        """Read back what `as_json` wrote."""
        cost = data["costUsd"]
        return cls(
            step=step,
            text=data["text"],
            stop_reason=data["stopReason"],
            model=data["model"],
            usage=Usage.from_json(data["usage"]),
            cost_usd=None if cost is None else Decimal(cost),
            duration_ms=data["durationMs"],
        )


class Verdict(StrEnum):
    """What a claim decided about one delivery."""

    CLAIMED = "claimed"
    TERMINAL = "terminal"
    FAILED = "failed"
    NOT_DUE = "not_due"
    LEASED = "leased"
    LEASED_THROUGH_ANOTHER_ENTRY = "leased_through_another_entry"
    SUSPECT_HELD = "suspect_held"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Claim:
    """The verdict on one delivery, with the job as it is after it.

    `judged_at` is Postgres' time, like the job's own. `is_damaged`: a finished call of the job is
    written down in a form that this version cannot read.
    """

    delivery: Delivery
    verdict: Verdict
    job: Job | None = None
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    judged_at: datetime | None = None
    is_damaged: bool = False

    @property
    def fence(self) -> Fence:
        """The fence of a claimed job."""
        if self.job is None:
            raise ValueError("a claim without a job has no fence")
        return Fence(self.job.id, self.job.attempt)
