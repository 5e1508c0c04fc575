"""Clients that watch jobs over SSE, are cut off and come back, and judge what they saw."""

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from uuid import UUID

import aiohttp
import orjson

from service.domain.events import EventType
from service.domain.folding import View, advance
from tests.chaos.clients import canary
from tests.chaos.plan import TENANTS, Habit, PlannedJob
from tests.chaos.world import World

_ENDINGS = frozenset({"complete", "error", "cancelled"})
_LATE = 20.0
_DROPS_AFTER = 4
_STALL = 5.0
_SILENCE = 45.0


@dataclass
class Transcript:
    """What one watcher saw of one job, checked event by event."""

    job: PlannedJob
    ids: list[tuple[int, int]] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    view: View = field(default_factory=View)
    endings: list[str] = field(default_factory=list)
    resyncs: int = 0
    _may_jump: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether nothing may follow: of a job that is redriven, an error is not the end."""
        last = self.endings[-1] if self.endings else None
        return last is not None and not (last == "error" and self.job.is_redriven)

    def take(self, event_id: str | None, event_type: str, text: str) -> None:
        """Note one event and what is wrong with it."""
        data = orjson.loads(text)
        self.types.append(event_type)
        if self.has_ended:
            self.faults.append(f"{event_type} {event_id} after {self.endings[-1]}")
        if event_id is not None:
            self._check_id(event_id)
        elif event_type not in {"connected", "resync"}:
            self.faults.append(f"{event_type} without an id")
        if event_type == "resync":
            self.resyncs += 1
        # A snapshot holds everything up to the row as it was read, so what follows may be later.
        self._may_jump = event_id is None and event_type == "resync"
        if event_type in _ENDINGS:
            self.endings.append(event_type)
        self._check_canary(text)
        self.view = advance(self.view, EventType(event_type), data)

    def _check_id(self, text: str) -> None:
        attempt, seq = (int(part) for part in text.split("-"))
        last = self.ids[-1] if self.ids else (0, 0)
        if (attempt, seq) <= last:
            self.faults.append(f"{text} after {last[0]}-{last[1]}")
        follows = (attempt, seq) == (last[0], last[1] + 1) or (attempt > last[0] and seq == 1)
        if not follows and not self._may_jump:
            self.faults.append(f"gap between {last[0]}-{last[1]} and {text}")
        self.ids.append((attempt, seq))

    def _check_canary(self, text: str) -> None:
        foreign = [n for n in range(len(TENANTS)) if n != self.job.tenant and canary(n) in text]
        self.faults += [f"text of {TENANTS[n]}" for n in foreign]


class Watcher:
    """Watches one job to its end, whatever happens to its connections."""

    def __init__(
        self,
        world: World,
        session: aiohttp.ClientSession,
        job: PlannedJob,
        habit: Habit,
        first: int,
    ) -> None:
        self.transcript = Transcript(job)
        self.connections = 0
        self.has_ended = False
        self._world = world
        self._session = session
        self._job = job
        self._habit = habit
        self._replica = first
        self._response: aiohttp.ClientResponse | None = None
        self._stalled_until = 0.0

    @property
    def is_live(self) -> bool:
        """Whether it reads a stream now."""
        return self._response is not None

    def drop(self, *, move: bool) -> None:
        """Cut its connection; `move` makes it come back at the other replica."""
        if self._response is not None:
            self._response.close()
        if move:
            self._replica += 1

    def stall(self) -> None:
        """Read nothing for some seconds."""
        self._stalled_until = monotonic() + _STALL

    async def watch(self, job_id: UUID) -> None:
        """Watch until the terminal event has come, or is known to have come."""
        if self._habit is Habit.LATE:
            await asyncio.sleep(_LATE)
        while not self.has_ended:
            try:
                await self._connect(job_id)
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                pass
            finally:
                self._response = None
            if not self.has_ended:
                self._replica += 1
                await asyncio.sleep(0.2)

    async def _connect(self, job_id: UUID) -> None:
        headers = {"Authorization": f"Bearer {self._world.keys[self._job.tenant, self._job.user]}"}
        seen = self.transcript.ids
        if seen and self._habit is Habit.RESTARTS:
            self.transcript = Transcript(self._job)
        elif seen:
            headers["Last-Event-ID"] = f"{seen[-1][0]}-{seen[-1][1]}"
        url = f"{self._world.address(self._replica)}/api/v1/jobs/{job_id}/stream"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_SILENCE)
        async with self._session.get(url, headers=headers, timeout=timeout) as response:
            if response.status == 204:
                self.has_ended = self.transcript.has_ended
            if response.status == 200:
                self.connections += 1
                self._response = response
                await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        buffer, events = b"", 0
        async for chunk in response.content.iter_any():
            buffer += chunk
            *blocks, buffer = buffer.split(b"\n\n")
            for block in blocks:
                events += self._take(block.decode())
                if self.has_ended:
                    return
            if self._habit is Habit.DROPS and events >= _DROPS_AFTER:
                return
            await asyncio.sleep(max(0.0, self._stalled_until - monotonic()))

    def _take(self, block: str) -> int:
        fields: dict[str, Any] = dict(
            line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":")
        )
        if "data" not in fields:
            if "id" in fields:
                self.transcript.faults.append("an id without an event")
            return 0
        self.transcript.take(fields.get("id"), fields["event"], fields["data"])
        self.has_ended = self.transcript.has_ended
        return 1
