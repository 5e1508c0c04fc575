"""The job streams, their consumer group, and the hints that wake others."""

from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

from service.domain.attempt import Delivery


class JobStream(Protocol):
    """The two job streams and their consumer group, as one consumer sees them."""

    async def read_new(self, count: int) -> list[Delivery]:
        """Wait briefly for new entries, the `again` stream first; raises `Unavailable`."""
        ...

    async def read_own_pending(self) -> list[Delivery]:
        """Read again what was delivered to this consumer and never acknowledged."""
        ...

    async def reclaim(self, count: int) -> list[Delivery]:
        """Take over entries whose consumer has been silent for longer than a lease."""
        ...

    async def acknowledge_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        """Acknowledge and delete the entries that are still this consumer's."""
        ...

    async def release_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        """Make this consumer's entries free to be reclaimed at once."""
        ...

    async def leave(self) -> None:
        """Remove this consumer from the group, unless entries are still pending for it."""
        ...


class EntryWriter(Protocol):
    """Puts jobs into the streams; an entry is only a doorbell."""

    async def add_entry(self, job_id: UUID, attempt: int, trace_parent: str | None) -> Delivery:
        """XADD once, without retries; first starts go to `jobs`, all others to `again`."""
        ...


class EntryLeases(Protocol):
    """Renewal of pending entries in Redis, from a loop of its own."""

    async def renew_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        """Reset the idle time of the entries that are still this consumer's."""
        ...


class Nudges(Protocol):
    """Hints that make others act now; losing one costs only time."""

    async def cancel(self, job_id: UUID) -> None:
        """Tell whoever runs the job that it was cancelled."""
        ...

    async def listen(self, on_cancel: Callable[[UUID], None]) -> None:
        """Hear cancellations until this task is cancelled."""
        ...


Wake = Callable[[], None]
