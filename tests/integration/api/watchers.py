"""Clients of event streams over real HTTP, and what must hold of all that any of them gets."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import aiohttp

from service.domain.events import BEGINNING, EventId, EventType, Tail
from service.domain.folding import View, fold
from service.domain.job import JsonObject
from tests.fixtures.deployment import Deployment
from tests.fixtures.watching import SeenEvent, read_events

_TERMINAL = {each.value for each in EventType if each.is_terminal}
_AWAY = {502, 503, 504}


@dataclass
class Watcher:
    """A client that comes back with the last id it has seen, like a browser, until the end."""

    deployment: Deployment
    job_id: UUID
    after: EventId = BEGINNING
    seen: list[SeenEvent] = field(default_factory=list)
    comments: int = 0
    connections: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        """Every id so far, as text."""
        return [str(each.id) for each in self.seen if each.id is not None]

    @property
    def types(self) -> list[str]:
        """The names of all events so far."""
        return [each.type for each in self.seen]

    @property
    def cursor(self) -> EventId:
        """The last id so far."""
        return max((each.id for each in self.seen if each.id is not None), default=self.after)

    @property
    def has_ended(self) -> bool:
        """Whether a terminal event has come."""
        return bool(self.seen) and self.seen[-1].type in _TERMINAL

    @property
    def view(self) -> View:
        """What it should show."""
        return fold((each.type, each.data) for each in self.seen)

    async def watch(self) -> "Watcher":
        """Follow the job to its end, over as many connections as it takes."""
        while not self.has_ended and self.status != 204:
            try:
                await self.connect()
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
        return self

    async def connect(self) -> None:
        """Follow the job until this connection ends."""
        cursor = self.cursor
        headers = {} if cursor == BEGINNING else {"Last-Event-ID": str(cursor)}
        async with self.deployment.session.get(
            self.deployment.stream_url(self.job_id),
            headers=self.deployment.sending(**headers),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as response:
            self.status, self.headers = response.status, dict(response.headers)
            if response.status in _AWAY:
                await asyncio.sleep(0.05)
                return
            assert response.status in {200, 204}, await response.text()
            self.connections += 1
            await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        rest = b""
        async for chunk in response.content.iter_any():
            *blocks, rest = (rest + chunk).split(b"\n\n")
            for block in blocks:
                self.comments += block.startswith(b":")
                self.seen += read_events(block.decode())

    def assert_sound(self, job: JsonObject | None = None) -> None:
        """What holds of every client of an ended job, whatever it went through."""
        ids = [each.id for each in self.seen if each.id is not None]
        assert ids == sorted(set(ids))
        assert [each.type in _TERMINAL for each in self.seen].count(True) == 1
        assert self.has_ended
        assert silent_gaps(self.seen, self.after) == []
        if job is not None and job["status"] == "completed":
            assert self.view.final is not None
            assert self.view.final["result"] == job["result"]
            assert self.view.story.as_json() == job["result"]["story"]


def silent_gaps(seen: Sequence[SeenEvent], after: EventId = BEGINNING) -> list[str]:
    """The ids before which something is missing that no snapshot stands for."""
    gaps, tail, is_excused = [], Tail(after), False
    for event in seen:
        is_excused = is_excused or event.type == "resync"
        if event.id is None:
            continue
        if not tail.accepts(event.id) and not is_excused:
            gaps.append(str(event.id))
        tail, is_excused = Tail(event.id), False
    return gaps
