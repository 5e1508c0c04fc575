"""What one process counts for all: the queue as Postgres has it."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSample:
    """How many jobs there are, and for how many seconds the oldest of each kind; 0 without any.

    Queued ones are due, waiting ones are not yet; `leases_expired` run and have a silent worker.
    """

    queued: int
    waiting: int
    processing: int
    queued_for: float
    waiting_for: float
    processing_for: float
    leases_expired: int
    failed: int
    paused_for: float


TakeSample: TypeAlias = Callable[[], Awaitable[QueueSample]]


class SampleStore(Protocol):
    """Counts for whoever holds the lock, and for nobody else."""

    def only_sampler(self) -> AbstractAsyncContextManager[TakeSample | None]:
        """Hold the lock that lets one process sample, if it is free.

        What is yielded raises `Unavailable` once the lock is lost.
        """
        ...
