"""Appends one attempt's events in order, in the background, without holding the job up."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from uuid import UUID

from service.domain.events import (
    EventId,
    EventType,
    JobEvent,
    coalesce_progress,
    event_data,
)
from service.domain.job import JsonObject
from service.ports.events import EventLog
from service.supervision import Background, Wakeup, retry_while_unavailable
from service.telemetry.logs import get_log
from service.telemetry.metrics import EVENT_APPEND_SECONDS, EVENTS_DROPPED, WRITES_FENCED

_log = get_log(__name__)

_PROGRESS_EVERY = 0.1
_CHUNK = 100
_MOST_EVENTS = 5000
_FINISH_PATIENCE = 2.0


@dataclass(slots=True)
class _Waiting:
    """An event that has no number yet."""

    type: EventType
    details: JsonObject


class EventWriter:
    """Numbers are given when events are sent, after progress was merged, so they leave no hole.

    All events of the attempt are kept: when Redis has lost the stream, it gets them again, with
    the same ids. Times in seconds; `ttl` while the job runs, `retention` after its end.
    """

    def __init__(
        self,
        job_id: UUID,
        attempt: int,
        log: EventLog,
        background: Background,
        *,
        ttl: float,
        retention: float,
        listener: Callable[[JobEvent], None],
    ) -> None:
        self._job_id = job_id
        self._attempt = attempt
        self._log = log
        self._background = background
        self._ttl = ttl
        self._retention = retention
        self._listener = listener
        self._waiting: list[_Waiting] = []
        self._numbered: list[JobEvent] = []
        self._appended = 0
        self._is_muted = False
        self._is_closed = False
        self._wake = Wakeup()
        self._pump: asyncio.Task[None] | None = None

    def emit(self, event_type: EventType, details: JsonObject) -> None:
        """Queue an event; progress that is not sent yet is merged with what follows."""
        if self._is_closed:
            return
        if event_type is EventType.ITERATION_PROGRESS and self._merge(details):
            return
        self._waiting.append(_Waiting(event_type, details))
        self._start_pump()

    def _merge(self, details: JsonObject) -> bool:
        """Whether a progress event is taken care of without an event of its own."""
        if len(self._numbered) >= _MOST_EVENTS:
            EVENTS_DROPPED.inc()
            return True
        last = self._waiting[-1] if self._waiting else None
        if last is None or last.type is not EventType.ITERATION_PROGRESS:
            return False
        merged = coalesce_progress(last.details, details)
        if merged is not None:
            last.details = merged
        return merged is not None

    def mute(self) -> None:
        """Append nothing for now: the lease may be another worker's soon."""
        self._is_muted = True

    def unmute(self) -> None:
        """Go on appending."""
        self._is_muted = False
        self._start_pump()

    def reserve_final(self) -> EventId:
        """Number everything that waits and return the id after it; nothing is queued any more."""
        self._number()
        self._is_closed = True
        return EventId(self._attempt, len(self._numbered) + 1)

    async def finish(self, event: JobEvent) -> bool:
        """Append what is left and the terminal event; whether it is in the stream."""
        return await self._flush([event], self._retention, _FINISH_PATIENCE)

    async def flush(self, patience: float) -> bool:
        """Append what is left and end; whether all of it is in the stream."""
        self._number()
        return await self._flush([], self._ttl, patience)

    def close(self) -> None:
        """Give up what is not appended yet; harmless after `finish` and `flush`."""
        self._is_closed = True
        self._wake()

    async def _flush(self, last: Sequence[JobEvent], ttl: float, patience: float) -> bool:
        self.close()
        try:
            async with asyncio.timeout(patience):
                if self._pump is not None:
                    await asyncio.wait({self._pump})
                for event in last:
                    self._keep(event)
                await retry_while_unavailable("append_events", lambda: self._append_all(ttl))
        except TimeoutError as error:
            _log.warning("events_left_behind", job=str(self._job_id), error=repr(error))
            return False
        return self._appended == len(self._numbered)

    def _start_pump(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = self._background.spawn("events", self._run_pump())
        else:
            self._wake()

    async def _run_pump(self) -> None:
        while self._may_append and (self._waiting or self._appended < len(self._numbered)):
            sent_at = monotonic()
            self._number()
            await retry_while_unavailable("append_events", self._append_while_allowed)
            EVENT_APPEND_SECONDS.observe(monotonic() - sent_at)
            await self._hold_progress(sent_at + _PROGRESS_EVERY)

    @property
    def _may_append(self) -> bool:
        return not self._is_muted and not self._is_closed

    async def _append_while_allowed(self) -> None:
        # Asked before every repetition: an outage may outlast the attempt.
        if self._may_append:
            await self._append_all(self._ttl)

    async def _hold_progress(self, until: float) -> None:
        """Wait while there is nothing but progress to tell, so that it is merged."""
        while not self._is_closed and (left := until - monotonic()) > 0:
            if any(each.type is not EventType.ITERATION_PROGRESS for each in self._waiting):
                return
            await self._wake.wait(left)

    def _number(self) -> None:
        for waiting in self._waiting:
            event_id = EventId(self._attempt, len(self._numbered) + 1)
            data = event_data(waiting.type, self._job_id, self._attempt, waiting.details)
            self._keep(JobEvent(event_id, waiting.type, data))
        self._waiting.clear()

    def _keep(self, event: JobEvent) -> None:
        self._numbered.append(event)
        try:
            self._listener(event)
        except Exception as error:  # noqa: BLE001 - somebody else's code
            _log.warning("event_listener_failed", job=str(self._job_id), error=repr(error))

    async def _append_all(self, ttl: float) -> None:
        """Append what is numbered; the same ids are sent again until Redis has answered."""
        while self._appended < len(self._numbered):
            chunk = self._numbered[self._appended : self._appended + _CHUNK]
            if not await self._append(chunk, ttl):
                return

    async def _append(self, events: Sequence[JobEvent], ttl: float) -> bool:
        answer = await self._log.append(self._job_id, events, ttl)
        if answer.is_fenced:
            WRITES_FENCED.labels(write="events").inc(len(events))
            self._is_closed = True
            return False
        if answer.has_hole:
            if self._appended == 0:
                _log.error("event_stream_has_a_hole", job=str(self._job_id), last=str(answer.last))
                return False
            # Redis has lost the stream: it gets this attempt's events from the first one on.
            self._appended = 0
            return True
        self._appended += len(events)
        return True
