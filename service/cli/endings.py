"""How a job ended, and how that is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from service.cli.exit_codes import ExitCode
from service.domain.events import EventType
from service.domain.job import JobStatus, JsonObject

OFFLINE = "offline"

_STATUSES = {
    EventType.COMPLETE: JobStatus.COMPLETED,
    EventType.ERROR: JobStatus.FAILED,
    EventType.CANCELLED: JobStatus.CANCELLED,
}
_CODES = {
    JobStatus.COMPLETED: ExitCode.OK,
    JobStatus.FAILED: ExitCode.JOB_FAILED,
    JobStatus.CANCELLED: ExitCode.JOB_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """A job's last word: the result of a completed one, the error of a failed one."""

    status: JobStatus
    result: JsonObject
    error: JsonObject

    @classmethod
    def of_event(cls, event_type: EventType, data: JsonObject) -> "Ending":
        """Read a terminal event."""
        return cls(_STATUSES[event_type], data.get("result") or {}, data)

    @classmethod
    def of_job(cls, job: Mapping[str, Any]) -> "Ending | None":
        """Read a job; None if it has not ended."""
        status = JobStatus(job["status"])
        if not status.is_terminal:
            return None
        return cls(status, job.get("result") or {}, job.get("error") or {})

    @property
    def code(self) -> ExitCode:
        """What a command that waited for the job exits with."""
        return _CODES[self.status]

    @property
    def markdown(self) -> str:
        """The improved story; empty if there is none."""
        return str(self.result.get("markdown", ""))

    def summary(self, job_id: UUID) -> str:
        """Tell in a few lines how the job ended, what it cost and who wrote it."""
        match self.status:
            case JobStatus.COMPLETED:
                return "\n".join(["completed", *_account(self.result)])
            case JobStatus.FAILED:
                return f"failed: {self.error.get('message', '')} ({self.error.get('code', '')})"
            case _:
                return f"{self.status.value}: {job_id}"


def dollars(cost: Any) -> str:
    """Show a cost in USD; None is a price that nobody knows."""
    return "unknown" if cost is None else f"${float(cost):.4f}"


def _account(result: JsonObject) -> list[str]:
    models = result.get("models") or []
    usage = result.get("tokenUsage") or {}
    lines = [f"  Time    {result.get('durationMs', 0) / 1000:.1f} s"]
    if models == [OFFLINE]:
        lines.append("  Model   offline: rules wrote this, no model was called")
        lines.append("  Cost    $0: nothing was paid")
    else:
        tokens = f"{usage.get('input', 0)} tokens read, {usage.get('output', 0)} written"
        lines.append(f"  Model   {', '.join(models)}")
        lines.append(f"  Cost    {dollars(result.get('costUsd'))} ({tokens})")
    for review in result.get("needsReview") or []:
        reasons = ", ".join(review.get("reasons", ()))
        lines.append(f"  Review  {review.get('iteration')} needs a person's eye: {reasons}")
    return lines
