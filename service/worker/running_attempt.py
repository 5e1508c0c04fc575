"""One attempt in progress: its events, its checkpoints and its paid calls."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Protocol

from service.domain.attempt import Checkpoint, Fence
from service.domain.errors import FailureKind, LeaseLost, ModelFailure
from service.domain.events import EventType, timestamp
from service.domain.job import Job, JsonObject
from service.domain.outcome import Stopped
from service.domain.usage import Usage, UsageMeter
from service.ports.attempts import CallClosing, CallOpening, UsageLedger
from service.ports.model import Model, ModelReply, ModelRequest
from service.supervision import Background
from service.telemetry.logs import get_log
from service.telemetry.metrics import MODEL_CALL_SECONDS, MODEL_CALLS, MODEL_FAILURES
from service.worker.bookkeeper import Bookkeeper
from service.worker.quota import QuotaGate
from service.worker.spans import call_span
from service.worker.stopping import StopRequested
from service.worker.upstream import UpstreamGate

_log = get_log(__name__)

_DOUBT_POLL = 0.1
_WORTH_TELLING = 1.0


class Events(Protocol):
    """Where an attempt's events go."""

    def emit(self, event_type: EventType, details: JsonObject) -> None:
        """Queue an event."""
        ...


class Brakes(Protocol):
    """What may hold an attempt up before its next call."""

    @property
    def lease_in_doubt(self) -> bool:
        """Whether the lease may soon be another worker's."""
        ...

    @property
    def stop_at_next_call(self) -> bool:
        """Whether the attempt should be handed back instead of paying for another call."""
        ...


class RunningAttempt:
    """Pays each step once: a finished call is written down before anyone hears of it."""

    def __init__(
        self,
        job: Job,
        checkpoints: Mapping[str, Checkpoint],
        *,
        events: Events,
        ledger: UsageLedger,
        background: Background,
        brakes: Brakes,
        upstream: UpstreamGate,
        now: Callable[[], datetime],
    ) -> None:
        self._job = job
        self._checkpoints = dict(checkpoints)
        self._events = events
        self._books = Bookkeeper(ledger, background)
        self._quota = QuotaGate(ledger, job.id, checkpoints)
        self._brakes = brakes
        self._upstream = upstream
        self._now = now
        self._fence = Fence(job.id, job.attempt)
        self._calls = 0
        self._has_progressed = False
        self._waits_until: datetime | None = None

    @property
    def job(self) -> Job:
        """The job as claimed."""
        return self._job

    @property
    def checkpoints(self) -> Mapping[str, Checkpoint]:
        """Finished model calls of earlier attempts and of this one, by step."""
        return self._checkpoints

    @property
    def has_progressed(self) -> bool:
        """Whether this attempt has finished a call of its own."""
        return self._has_progressed

    def emit(self, event_type: EventType, details: JsonObject) -> None:
        """Queue a durable event."""
        self._events.emit(event_type, details)

    async def pay_once(
        self, step: str, model: Model, request: ModelRequest, on_text: Callable[[str], None]
    ) -> Checkpoint:
        """Return the step's checkpoint, making its model call only if none is written down."""
        known = self._checkpoints.get(step)
        if known is not None:
            return known
        request = replace(request, on_behalf_of=self._job.request_id)
        await self._pass_gate()
        await self._quota.enter(step)
        self._waits_until = None
        user = f"{self._job.owner.tenant_id}/{self._job.owner.user_id}"
        async with self._upstream.turn(model, request, user, self._while_waiting) as meter:
            self._calls += 1
            opening = self._opening(step, model, request)
            await self._books.open(opening, self._pass_gate)
            with call_span(step, model, request, meter):
                checkpoint = await self._make(opening, model, request, meter, on_text)
        self._checkpoints[step] = checkpoint
        self._has_progressed = True
        if self._brakes.stop_at_next_call:
            raise StopRequested(Stopped())
        return checkpoint

    async def bookings_done(self) -> None:
        """Return when every call of this attempt is written down, or cannot be."""
        await self._books.done()

    async def _pass_gate(self) -> None:
        while self._brakes.lease_in_doubt:  # noqa: ASYNC110 - doubt ends in another thread
            await asyncio.sleep(_DOUBT_POLL)
        if self._brakes.stop_at_next_call:
            raise StopRequested(Stopped())

    async def _while_waiting(self, seconds: float) -> None:
        """Tell watchers until when, once, and again whenever that has passed."""
        await self._pass_gate()
        now = self._now()
        if seconds < _WORTH_TELLING or (self._waits_until and now < self._waits_until):
            return
        self._waits_until = now + timedelta(seconds=seconds)
        details = {"reason": "upstream-budget", "until": timestamp(self._waits_until)}
        self.emit(EventType.WAITING, details)

    def _opening(self, step: str, model: Model, request: ModelRequest) -> CallOpening:
        # If this process dies during the call, only what it certainly read is booked.
        expected = Usage(input=model.estimate_input_tokens(request))
        return CallOpening(
            fence=self._fence,
            call=self._calls,
            owner=self._job.owner,
            step=step,
            model=request.model,
            estimated_input=expected.input,
            estimated_cost_usd=model.cost_usd(request.model, expected),
        )

    async def _make(
        self,
        opening: CallOpening,
        model: Model,
        request: ModelRequest,
        meter: UsageMeter,
        on_text: Callable[[str], None],
    ) -> Checkpoint:
        started = monotonic()

        def close(
            ending: str, usage: Usage, checkpoint: Checkpoint | None = None
        ) -> asyncio.Task[bool]:
            name = meter.model or request.model
            MODEL_CALLS.labels(model=name, ending=ending).inc()
            MODEL_CALL_SECONDS.labels(model=name).observe(monotonic() - started)
            return self._books.close(
                CallClosing(
                    fence=opening.fence,
                    call=opening.call,
                    model=name,
                    usage=usage,
                    cost_usd=checkpoint.cost_usd if checkpoint else model.cost_usd(name, usage),
                    ending=ending,
                    request_id=meter.request_id,
                    checkpoint=checkpoint,
                )
            )

        try:
            await self._pass_gate()  # again, because opening may have taken long
            reply = await model.complete(request, meter, on_text)
        except BaseException as error:
            close("failed" if isinstance(error, Exception) else "aborted", meter.usage)
            if isinstance(error, ModelFailure):
                _report(error)
            raise
        meter.model, meter.request_id = reply.model, reply.request_id
        checkpoint = _checkpoint(opening.step, model, reply, monotonic() - started)
        if not await asyncio.shield(close("finished", reply.usage, checkpoint)):
            raise LeaseLost("another attempt owns the job")
        return checkpoint


def _report(failure: ModelFailure) -> None:
    MODEL_FAILURES.labels(kind=failure.kind.value).inc()
    if failure.kind is FailureKind.CONFIGURATION:
        _log.error("model_needs_operator", failure=failure.message)


def _checkpoint(step: str, model: Model, reply: ModelReply, seconds: float) -> Checkpoint:
    return Checkpoint(
        step=step,
        text=reply.text,
        stop_reason=reply.stop_reason,
        model=reply.model,
        usage=reply.usage,
        cost_usd=model.cost_usd(reply.model, reply.usage),
        duration_ms=int(seconds * 1000),
    )
