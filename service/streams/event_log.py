"""Each job's event stream: appended to by one script, read by cursor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from redis.exceptions import NoScriptError

from service.domain.events import EventId, JobEvent
from service.domain.frames import Frame, render
from service.group_commit import GroupCommit
from service.ports import Appended
from service.streams import keys
from service.streams.connection import Client, redis_errors
from service.streams.scripts import append_events
from service.supervision import Background
from service.telemetry.metrics import EVENTS_APPENDED


@dataclass(frozen=True, slots=True)
class _Append:
    """One job's contiguous events, all of one attempt."""

    job_id: UUID
    events: Sequence[JobEvent]
    ttl: float


class RedisEventLog:
    """Appends that become ready together share a pipeline; each keeps its own outcome.

    `client` may repeat commands: appending the same ids again has no effect.
    """

    def __init__(self, client: Client, background: Background) -> None:
        self._client = client
        self._appends: GroupCommit[_Append, Appended] = GroupCommit(
            "append_events", self._append_all, background, max_batch=100
        )

    async def append(self, job_id: UUID, events: Sequence[JobEvent], ttl: float) -> Appended:
        """Append and publish contiguous events in one step; repeating it has no effect."""
        appended = await self._appends.submit(_Append(job_id, events, ttl))
        EVENTS_APPENDED.labels(verdict=appended.verdict).inc(len(events))
        return appended

    async def _append_all(self, appends: Sequence[_Append]) -> list[Appended | BaseException]:
        calls = [_arguments(append) for append in appends]
        with redis_errors():
            replies = await self._run(calls)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                await self._client.script_load(append_events.source)
                replies = await self._run(calls)
        return [reply if isinstance(reply, Exception) else _appended(reply) for reply in replies]

    async def _run(self, calls: Sequence[list[Any]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(append_events.sha, *call)
        return await pipeline.execute(raise_on_error=False)

    async def read_after(self, job_id: UUID, cursor: EventId, limit: int) -> list[Frame]:
        """Return the events after the cursor, in order; empty when the stream is gone."""
        with redis_errors():
            entries: Any = await self._client.xrange(
                keys.events(job_id), min=f"({cursor}", count=limit
            )
        frames = (_frame(entry_id, fields) for entry_id, fields in entries)
        return [frame for frame in frames if frame is not None]

    async def last_ids(self, job_ids: Sequence[UUID]) -> dict[UUID, EventId]:
        """Return the newest event id of each stream that still exists."""
        with redis_errors():
            pipeline = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipeline.xrevrange(keys.events(job_id), count=1)
            replies: Any = await pipeline.execute()
        found = {}
        for job_id, entries in zip(job_ids, replies, strict=True):
            last = EventId.parse(entries[0][0].decode()) if entries else None
            if last is not None:
                found[job_id] = last
        return found

    async def delete(self, job_id: UUID) -> None:
        """Erase a job's events."""
        with redis_errors():
            await self._client.delete(keys.events(job_id))


def _arguments(append: _Append) -> list[Any]:
    first, last = append.events[0], append.events[-1]
    frames = [render(event) for event in append.events]
    return append_events.arguments(
        stream=keys.events(append.job_id),
        channel=keys.live(append.job_id),
        ttl_ms=max(1, int(append.ttl * 1000)),
        attempt=first.id.attempt,
        first_seq=first.id.seq,
        last_is_final=int(last.type.is_terminal),
        types_and_data=[part for frame in frames for part in (frame.type, frame.data)],
    )


def _appended(reply: Any) -> Appended:
    verdict, last = reply
    parsed = EventId.parse(last.decode())
    if parsed is None:
        raise ValueError(f"not an event id: {last!r}")
    return Appended(verdict.decode(), parsed)


def _frame(entry_id: bytes, fields: Any) -> Frame | None:
    """Read an entry; one that was not written by `append_events` is None."""
    event_id = EventId.parse(entry_id.decode())
    if event_id is None or b"type" not in fields or b"data" not in fields:
        return None
    return Frame(event_id, fields[b"type"].decode(), fields[b"data"])
