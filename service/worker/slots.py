"""The attempts that run in this process, and how many more may."""

from collections.abc import Iterator
from uuid import UUID

from service.telemetry.metrics import SLOTS
from service.worker.processor import JobProcessor


class Slots:
    """At most `size` attempts at once, never two of the same job, and no new one while closed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._running: dict[UUID, JobProcessor] = {}
        self._is_closed = False
        self._show()

    @property
    def free(self) -> int:
        """How many attempts may start now."""
        return 0 if self._is_closed else self._size - len(self._running)

    @property
    def suspects(self) -> int:
        """How many of the running jobs may have crashed a worker before."""
        return sum(processor.is_suspect for processor in self)

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[JobProcessor]:
        return iter(list(self._running.values()))

    def running(self, job_id: UUID) -> JobProcessor | None:
        """Return the attempt of a job that runs here."""
        return self._running.get(job_id)

    def occupy(self, job_id: UUID, processor: JobProcessor) -> None:
        """Take a slot for an attempt."""
        if job_id in self._running:
            raise ValueError(f"job {job_id} already runs here")
        self._running[job_id] = processor
        self._show()

    def close(self) -> None:
        """Let no more attempts start; those that run go on."""
        self._is_closed = True
        self._show()

    def open(self) -> None:
        """Let attempts start again."""
        self._is_closed = False
        self._show()

    def vacate(self, job_id: UUID) -> None:
        """Give the slot of a job back."""
        del self._running[job_id]
        self._show()

    def _show(self) -> None:
        SLOTS.labels(state="busy").set(len(self._running))
        SLOTS.labels(state="free").set(self.free)
