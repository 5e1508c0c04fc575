"""One attempt in progress: its events, its checkpoints and its paid calls."""

import asyncio
from collections.abc import Callable, Mapping
from decimal import Decimal
from time import monotonic
from typing import Protocol

from service.domain.attempt import Checkpoint, Fence
from service.domain.errors import LeaseLost, ModelFailure, Unavailable
from service.domain.events import EventType
from service.domain.job import Job, JsonObject
from service.domain.usage import Usage, UsageMeter
from service.ports import CallClosing, CallOpening, Model, ModelReply, ModelRequest, UsageLedger
from service.supervision import Background, retry_while_unavailable
from service.telemetry.logs import get_log
from service.telemetry.metrics import (
    MODEL_CALL_SECONDS,
    MODEL_CALLS,
    MODEL_COST_USD,
    MODEL_TOKENS,
    WRITES_FENCED,
)

_log = get_log(__name__)

_CLOSE_PATIENCE = 60.0
_DOUBT_POLL = 0.1


class StopRequested(BaseException):
    """This process is shutting down, and a finished call is a good moment to hand back.

    Not an `Exception`: an agent that catches too much must not swallow it.
    """


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
    ) -> None:
        self._job = job
        self._checkpoints = dict(checkpoints)
        self._events = events
        self._ledger = ledger
        self._background = background
        self._brakes = brakes
        self._fence = Fence(job.id, job.attempt)
        self._calls = 0
        self._bookings: set[asyncio.Task[bool | None]] = set()

    @property
    def job(self) -> Job:
        """The job as claimed."""
        return self._job

    @property
    def checkpoints(self) -> Mapping[str, Checkpoint]:
        """Finished model calls of earlier attempts and of this one, by step."""
        return self._checkpoints

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
        await self._pass_gate()
        call = await self._open(step, model, request)
        checkpoint = await self._make(call, step, model, request, on_text)
        self._checkpoints[step] = checkpoint
        if self._brakes.stop_at_next_call:
            raise StopRequested
        return checkpoint

    async def bookings_done(self) -> None:
        """Wait until every call of this attempt is written down, or given up on."""
        if self._bookings:
            await asyncio.wait(set(self._bookings))

    async def _pass_gate(self) -> None:
        while self._brakes.lease_in_doubt:  # noqa: ASYNC110 - doubt ends in another thread
            await asyncio.sleep(_DOUBT_POLL)
        if self._brakes.stop_at_next_call:
            raise StopRequested

    async def _open(self, step: str, model: Model, request: ModelRequest) -> int:
        self._calls += 1
        # If this process dies during the call, only what it certainly read is booked.
        expected = Usage(input=model.estimate_input_tokens(request))
        opening = CallOpening(
            fence=self._fence,
            call=self._calls,
            owner=self._job.owner,
            step=step,
            model=request.model,
            estimated_input=expected.input,
            estimated_cost_usd=model.cost_usd(request.model, expected),
        )
        if not await self._ledger.open_call(opening):
            WRITES_FENCED.labels(write="open_call").inc()
            raise LeaseLost("another attempt owns the job")
        return self._calls

    async def _make(
        self,
        call: int,
        step: str,
        model: Model,
        request: ModelRequest,
        on_text: Callable[[str], None],
    ) -> Checkpoint:
        meter = UsageMeter()
        started = monotonic()

        def closing(ending: str, usage: Usage, checkpoint: Checkpoint | None = None) -> CallClosing:
            name = meter.model or request.model
            cost = checkpoint.cost_usd if checkpoint else model.cost_usd(name, usage)
            return CallClosing(
                fence=self._fence,
                call=call,
                model=name,
                usage=usage,
                cost_usd=cost,
                ending=ending,
                request_id=meter.request_id,
                checkpoint=checkpoint,
            )

        try:
            reply = await model.complete(request, meter, on_text)
        except asyncio.CancelledError:
            self._book(closing("aborted", meter.usage), started)
            raise
        except ModelFailure:
            await asyncio.shield(self._book(closing("failed", meter.usage), started))
            raise
        except Exception:
            self._book(closing("failed", meter.usage), started)
            raise
        meter.model, meter.request_id = reply.model, reply.request_id
        checkpoint = _checkpoint(step, model, reply, monotonic() - started)
        booking = self._book(closing("finished", reply.usage, checkpoint), started)
        is_current = await asyncio.shield(booking)
        if is_current is None:
            raise Unavailable("Postgres")
        if not is_current:
            WRITES_FENCED.labels(write="checkpoint").inc()
            raise LeaseLost("another attempt owns the job")
        return checkpoint

    def _book(self, closing: CallClosing, started: float) -> asyncio.Task[bool | None]:
        _measure(closing, monotonic() - started)
        task = self._background.spawn("book_call", self._close(closing))
        self._bookings.add(task)
        task.add_done_callback(self._bookings.discard)
        return task

    async def _close(self, closing: CallClosing) -> bool | None:
        """Write a call down, through outages of up to a minute; None if that failed."""
        try:
            return await retry_while_unavailable(
                "close_call", lambda: self._ledger.close_call(closing), patience=_CLOSE_PATIENCE
            )
        except Unavailable:
            _log.error(
                "call_not_booked",
                job=str(closing.fence.job_id),
                attempt=closing.fence.attempt,
                call=closing.call,
                ending=closing.ending,
                tokens=closing.usage.total,
            )
            return None


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


def _measure(closing: CallClosing, seconds: float) -> None:
    usage = closing.usage
    MODEL_CALLS.labels(model=closing.model, ending=closing.ending).inc()
    MODEL_CALL_SECONDS.labels(model=closing.model).observe(seconds)
    for kind, tokens in usage.as_json().items():
        MODEL_TOKENS.labels(model=closing.model, kind=kind).inc(tokens)
    MODEL_COST_USD.labels(model=closing.model).inc(float(closing.cost_usd or Decimal(0)))
