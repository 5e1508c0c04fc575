"""Each job's event stream: appended to by one script, read by cursor."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from redis.exceptions import NoScriptError

from service.domain.errors import Unavailable
from service.domain.events import EventId, JobEvent
from service.domain.frames import Frame, render
from service.group_commit import GroupCommit
from service.ports.events import Appended
from service.streams import keys
from service.streams.cluster import Server
from service.streams.connection import Client, as_cluster, redis_errors, translate
from service.streams.scripts import append_events, redrive_events, seal_events
from service.supervision import Background
from service.telemetry.metrics import EVENTS_APPENDED

# No job is ever started as often: a row's attempt has fewer digits.
_BEYOND_ALL = EventId(9_999_999_999, 1)


class RedisEventLog:
    """Appends that become ready together share a pipeline; each keeps its own outcome.

    Those for one server of a cluster do not wait for another's answer. `client` may repeat
    commands: appending the same ids again has no effect.
    """

    def __init__(self, client: Client, background: Background) -> None:
        self._client = client
        self._background = background
        self._cluster = as_cluster(client)
        self._publish = "PUBLISH" if self._cluster is None else "SPUBLISH"
        self._appends: dict[Server | None, GroupCommit[list[Any], Appended]] = {}

    async def append(self, job_id: UUID, events: Sequence[JobEvent], ttl: float) -> Appended:
        """Append and publish contiguous events in one step; repeating it has no effect."""
        # Rendered here: what cannot be is this caller's error, not its neighbours'.
        arguments = self._arguments(job_id, events, ttl)
        appended = await self._appends_with(job_id).submit(arguments)
        EVENTS_APPENDED.labels(verdict=appended.verdict).inc(len(events))
        return appended

    def _appends_with(self, job_id: UUID) -> GroupCommit[list[Any], Appended]:
        server = None if self._cluster is None else self._cluster.server_of(keys.events(job_id))
        if server not in self._appends:
            self._appends[server] = GroupCommit(
                "append_events", self._run_all, self._background, max_batch=100
            )
        return self._appends[server]

    def _arguments(self, job_id: UUID, events: Sequence[JobEvent], ttl: float) -> list[Any]:
        first, last = events[0], events[-1]
        frames = [render(event) for event in events]
        return append_events.arguments(
            stream=keys.events(job_id),
            publish=self._publish,
            channel=keys.live(job_id),
            ttl_ms=_milliseconds(ttl),
            attempt=first.id.attempt,
            first_seq=first.id.seq,
            last_is_final=int(last.type.is_terminal),
            types_and_data=[part for frame in frames for part in (frame.type, frame.data)],
        )

    async def _run_all(self, calls: Sequence[list[Any]]) -> list[Appended | BaseException]:
        with redis_errors():
            replies = await self._run(calls)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                # Only some servers of a cluster have forgotten it; this loads it where it runs.
                replies = await self._run(calls, with_source=True)
        return [
            translate(reply) if isinstance(reply, Exception) else _appended(reply)
            for reply in replies
        ]

    async def _run(self, calls: Sequence[list[Any]], *, with_source: bool = False) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            if with_source:
                pipeline.eval(append_events.source, *call)
            else:
                pipeline.evalsha(append_events.sha, *call)
        return await pipeline.execute(raise_on_error=False)

    async def redrive(self, job_id: UUID, event: JobEvent, ttl: float) -> Appended:
        """Append and publish what begins a generation, and forget those before; repeatable."""
        frame = render(event)
        with redis_errors():
            reply = await redrive_events(
                self._client,
                stream=keys.events(job_id),
                publish=self._publish,
                channel=keys.live(job_id),
                ttl_ms=_milliseconds(ttl),
                attempt=event.id.attempt,
                type=frame.type,
                data=frame.data,
            )
        appended = _appended(reply)
        EVENTS_APPENDED.labels(verdict=appended.verdict).inc()
        return appended

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
            replies: Any = await pipeline.execute(raise_on_error=False)
        found = {}
        for job_id, reply in zip(job_ids, replies, strict=True):
            last = _last_id(reply)
            if last is not None:
                found[job_id] = last
        return found

    async def erase(self, job_id: UUID) -> None:
        """Take all events out of a job's stream, which goes on refusing their ids."""
        with redis_errors():
            await self._client.xtrim(keys.events(job_id), maxlen=0, approximate=False)

    async def seal(self, job_id: UUID, ttl: float) -> None:
        """Erase a job's events, and refuse every event of it for `ttl` seconds."""
        with redis_errors():
            await seal_events(
                self._client,
                stream=keys.events(job_id),
                last_id=str(_BEYOND_ALL),
                ttl_ms=_milliseconds(ttl),
            )


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))  # what expires at once would take the stream away


def _appended(reply: Any) -> Appended:
    verdict, last = reply
    parsed = EventId.parse(last.decode())
    if parsed is None:
        raise ValueError(f"not an event id: {last!r}")
    return Appended(verdict.decode(), parsed)


def _last_id(reply: Any) -> EventId | None:
    """Read the last entry; what is no stream has none, and hides no other job's."""
    if isinstance(reply, Exception):
        error = translate(reply)
        if isinstance(error, Unavailable):
            raise error
        return None
    return EventId.parse(reply[0][0].decode()) if reply else None


def _frame(entry_id: bytes, fields: Any) -> Frame | None:
    """Read an entry; one that was not written by `append_events` is None."""
    event_id = EventId.parse(entry_id.decode())
    if event_id is None or b"type" not in fields or b"data" not in fields:
        return None
    return Frame(event_id, fields[b"type"].decode(), fields[b"data"])
