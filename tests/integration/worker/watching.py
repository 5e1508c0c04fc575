"""The real stores, watched: what they did in which order, and replies that get lost."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from uuid import UUID

from service.bootstrap.connections import Connections
from service.domain.attempt import Claim, Delivery, Fence
from service.domain.errors import Unavailable
from service.domain.events import EventId, JobEvent
from service.domain.transitions import Transition
from service.ports.attempts import CallClosing, CallOpening, ClaimTerms, Recorded
from service.ports.events import Appended
from service.postgres.attempt_store import PostgresAttemptStore
from service.postgres.usage_ledger import PostgresUsageLedger
from service.streams.event_log import RedisEventLog
from service.streams.job_stream import RedisEntryWriter, RedisJobStream
from service.supervision import Background

Answer = TypeVar("Answer")


def _open() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Watch:
    """Faults by the name of what they hit, for so many times; and all that took effect.

    `away`: it fails before it takes effect. `unheard`: it fails after it. `broken`: it raises
    this, always. `held` and `late`: it waits, before or after it takes effect, while the event
    is not set.
    """

    done: list[str] = field(default_factory=list)
    away: Counter[str] = field(default_factory=Counter)
    unheard: Counter[str] = field(default_factory=Counter)
    broken: dict[str, Exception] = field(default_factory=dict)
    held: defaultdict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(_open))
    late: defaultdict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(_open))

    async def through(self, name: str, act: Callable[[], Awaitable[Answer]]) -> Answer:
        await self.held[name].wait()
        if name in self.broken:
            raise self.broken[name]
        if self.away[name]:
            self.away[name] -= 1
            raise Unavailable(name)
        answer = await act()
        self.done.append(name)
        await self.late[name].wait()
        if self.unheard[name]:
            self.unheard[name] -= 1
            raise Unavailable(name)
        return answer

    def watched(self, connections: Connections, background: Background) -> Connections:
        """The same connections, under watch."""
        return replace(
            connections,
            attempts=WatchedAttempts(self, connections.database, background),
            ledger=WatchedLedger(self, connections.database, background),
            events=WatchedEvents(self, connections.commands, background),
            entries=WatchedEntries(self, connections.once),
        )

    def stream(self, *given: Any, **options: Any) -> RedisJobStream:
        """A job stream under watch, made like any other."""
        return WatchedStream(self, *given, **options)


class WatchedAttempts(PostgresAttemptStore):
    """Claims and endings."""

    def __init__(self, watch: Watch, *given: Any) -> None:
        super().__init__(*given)
        self._watch = watch

    async def claim(self, deliveries: Sequence[Delivery], terms: ClaimTerms) -> list[Claim]:
        claim = super().claim
        return await self._watch.through("claim", lambda: claim(deliveries, terms))

    async def record_if_current(
        self, fence: Fence, transition: Transition, final_event_id: EventId | None
    ) -> Recorded:
        record = super().record_if_current
        return await self._watch.through(
            "record", lambda: record(fence, transition, final_event_id)
        )

    async def clear_event_pending(self, job_id: UUID, final_event_id: EventId) -> None:
        clear = super().clear_event_pending
        await self._watch.through("clear", lambda: clear(job_id, final_event_id))

    async def read_fences(self, job_ids: Sequence[UUID]) -> dict[UUID, Recorded]:
        read = super().read_fences
        return await self._watch.through("fences", lambda: read(job_ids))


class WatchedLedger(PostgresUsageLedger):
    """Openings and closings of calls."""

    def __init__(self, watch: Watch, *given: Any) -> None:
        super().__init__(*given)
        self._watch = watch

    async def open_call(self, opening: CallOpening) -> bool:
        open_call = super().open_call
        return await self._watch.through("open", lambda: open_call(opening))

    async def close_call(self, closing: CallClosing) -> bool:
        close_call = super().close_call
        return await self._watch.through("close", lambda: close_call(closing))


class WatchedEvents(RedisEventLog):
    """Appends; those of terminal events are named `final`."""

    def __init__(self, watch: Watch, *given: Any) -> None:
        super().__init__(*given)
        self._watch = watch

    async def append(self, job_id: UUID, events: Sequence[JobEvent], ttl: float) -> Appended:
        append = super().append
        name = "final" if events[-1].type.is_terminal else "append"
        return await self._watch.through(name, lambda: append(job_id, events, ttl))


class WatchedEntries(RedisEntryWriter):
    """New entries."""

    def __init__(self, watch: Watch, *given: Any) -> None:
        super().__init__(*given)
        self._watch = watch

    async def add_entry(self, job_id: UUID, attempt: int, trace_parent: str | None) -> Delivery:
        add = super().add_entry
        return await self._watch.through("add", lambda: add(job_id, attempt, trace_parent))


class WatchedStream(RedisJobStream):
    """Reads, acknowledgements and releases."""

    def __init__(self, watch: Watch, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._watch = watch

    async def read_new(self, count: int) -> list[Delivery]:
        read = super().read_new
        return await self._watch.through("read", lambda: read(count))

    async def read_own_pending(self) -> list[Delivery]:
        return await self._watch.through("reread", super().read_own_pending)

    async def acknowledge_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        acknowledge = super().acknowledge_if_owner
        return await self._watch.through("acknowledge", lambda: acknowledge(deliveries))

    async def release_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        release = super().release_if_owner
        return await self._watch.through("release", lambda: release(deliveries))
