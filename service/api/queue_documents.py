"""The queue as those see it who operate it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from service.api.documents import Document
from service.ports.queue_control import JobCounts, Pause, StreamCounts

_LONGEST_REASON = 500


class PauseOrder(BaseModel):
    """Why the queue is paused."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"reason": "The model's bill is looked into."}]},
    )

    reason: str | None = Field(
        None, description="Shown to whoever looks at the queue.", max_length=_LONGEST_REASON
    )


class PauseState(Document):
    """Whether workers may start jobs."""

    paused: bool
    since: datetime | None
    by: str | None
    """Whose key paused it: `<tenant>/<user>`."""
    reason: str | None

    @classmethod
    def of(cls, pause: Pause | None) -> Self:
        """Show a pause, or that there is none."""
        if pause is None:
            return cls(paused=False, since=None, by=None, reason=None)
        return cls(paused=True, since=pause.since, by=pause.by, reason=pause.reason)


class EndedJobs(Document):
    """How many jobs ended within the last hour."""

    completed: int
    failed: int
    cancelled: int


class QueuedJobs(Document):
    """How many jobs there are."""

    queued: int
    waiting: int
    """Those of the queued ones that may not start yet: for their next try, or for new tokens."""
    without_entry: int
    """Those of the queued ones that have no entry in a stream, among them the waiting ones."""
    oldest_queued_seconds: float | None
    """How long ago the oldest queued job was submitted; null without any."""
    processing: int
    failed: int
    """All that can be redriven."""
    ended_last_hour: EndedJobs

    @classmethod
    def of(cls, counts: JobCounts) -> Self:
        """Show counts."""
        return cls(
            queued=counts.queued,
            waiting=counts.waiting,
            without_entry=counts.without_entry,
            oldest_queued_seconds=counts.oldest_queued,
            processing=counts.processing,
            failed=counts.failed,
            ended_last_hour=EndedJobs(
                completed=counts.completed_last_hour,
                failed=counts.failed_last_hour,
                cancelled=counts.cancelled_last_hour,
            ),
        )


class StreamDocument(Document):
    """A job stream of Redis and its consumer group."""

    stream: str
    entries: int
    lag: int | None
    """Entries that no worker has read; null where Redis does not know."""
    pending: int
    """Entries whose job runs, or whose worker has fallen silent."""
    consumers: int

    @classmethod
    def of(cls, counts: StreamCounts) -> Self:
        """Show a stream."""
        return cls(
            stream=counts.stream,
            entries=counts.entries,
            lag=counts.lag,
            pending=counts.pending,
            consumers=counts.consumers,
        )


class QueueDocument(Document):
    """The whole queue: `degraded` without Redis."""

    status: Literal["ok", "degraded"]
    pause: PauseState
    jobs: QueuedJobs
    streams: list[StreamDocument] | None
    """The job streams, that which is read first first; null without Redis."""

    @classmethod
    def of(
        cls, pause: Pause | None, jobs: JobCounts, streams: Sequence[StreamCounts] | None
    ) -> Self:
        """Show the queue; streams are None when Redis does not answer."""
        return cls(
            status="degraded" if streams is None else "ok",
            pause=PauseState.of(pause),
            jobs=QueuedJobs.of(jobs),
            streams=None if streams is None else [StreamDocument.of(each) for each in streams],
        )
