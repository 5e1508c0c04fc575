"""Runs one attempt of one job: perform, decide, record."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Protocol
from uuid import UUID

from structlog.contextvars import bind_contextvars

from service.domain.attempt import Claim
from service.domain.errors import FailureKind, JobFailure, LeaseLost, Unavailable
from service.domain.events import JobEvent
from service.domain.job import Job
from service.domain.outcome import (
    Failed,
    Outcome,
    Stopped,
    Succeeded,
    Superseded,
)
from service.domain.traces import trace_id
from service.telemetry.logs import get_log
from service.telemetry.metrics import PICKUP_SECONDS
from service.telemetry.tracing import Span
from service.worker.claim_clock import ClaimClock
from service.worker.dependencies import AttemptDependencies
from service.worker.endings import AttemptEnding
from service.worker.event_writer import EventWriter
from service.worker.running_attempt import RunningAttempt
from service.worker.spans import attempt_span
from service.worker.stopping import StopRequested

_log = get_log(__name__)

_EVENT_MARGIN = 3600.0
# Whoever swallows a cancellation gets another one.
_CANCEL_AGAIN = 5.0


class Drain(Protocol):
    """Whether this process is about to hand its jobs back."""

    @property
    def at_next_call(self) -> bool:
        """Whether attempts should stop at their next finished call."""
        ...


class JobProcessor:
    """One attempt, from its claim to its acknowledgement."""

    def __init__(
        self,
        claim: Claim,
        dependencies: AttemptDependencies,
        *,
        claimed_at: float,
        drain: Drain,
        listener: Callable[[JobEvent], None],
    ) -> None:
        if claim.job is None:
            raise ValueError("only a claimed job can be processed")
        self._claim = claim
        self._job: Job = claim.job
        self._to = dependencies
        self._drain = drain
        self._clock = ClaimClock(claim)
        self._work: asyncio.Task[Outcome] | None = None
        self._interruption: Outcome | None = None
        self._is_processing = True
        self._trace_parent = self._job.trace_parent
        self._writer = EventWriter(
            self._job.id,
            self._job.attempt,
            dependencies.events,
            dependencies.background,
            ttl=max(0.0, self._clock.seconds_until(self._job.deadline_at)) + _EVENT_MARGIN,
            retention=dependencies.event_retention,
            listener=listener,
        )
        self._attempt = RunningAttempt(
            self._job,
            claim.checkpoints,
            events=self._writer,
            ledger=dependencies.ledger,
            background=dependencies.background,
            brakes=self,
            upstream=dependencies.upstream,
            now=self._clock.now,
        )
        self._lease = dependencies.leases.hold(
            claim.fence,
            claim.delivery,
            since=claimed_at,
            on_lost=self.abort,
            on_doubt=self._on_doubt,
        )

    @property
    def worker_id(self) -> str:
        """The worker that runs this attempt."""
        return self._to.worker_id

    @property
    def is_processing(self) -> bool:
        """Whether the attempt has not been recorded yet."""
        return self._is_processing

    @property
    def current_job_id(self) -> UUID | None:
        """The job, while it is being processed."""
        return self._job.id if self._is_processing else None

    @property
    def attempt(self) -> int:
        """The attempt's number."""
        return self._job.attempt

    @property
    def identity(self) -> dict[str, object]:
        """What every log record about this attempt says, whoever writes it."""
        ids = {"request_id": self._job.request_id, "trace_id": trace_id(self._trace_parent)}
        known = {name: each for name, each in ids.items() if each}
        return {"job": str(self._job.id), "attempt": self._job.attempt, **known}

    @property
    def entry_id(self) -> str:
        """The entry through which the job was delivered."""
        return self._claim.delivery.entry_id

    @property
    def is_suspect(self) -> bool:
        """Whether the job may have crashed a worker since its last checkpoint."""
        return self._job.crash_count > 0 and not self._attempt.has_progressed

    @property
    def lease_in_doubt(self) -> bool:
        """Whether the lease may soon be another worker's."""
        return self._lease.in_doubt

    @property
    def stop_at_next_call(self) -> bool:
        """Whether to hand the job back instead of paying for another call."""
        return self._drain.at_next_call

    def abort(self) -> None:
        """Stop at once: the job was cancelled or is another worker's."""
        self._interrupt(Superseded())

    def hand_back(self) -> None:
        """Stop at once and queue the job again, free of charge."""
        self._interrupt(Stopped())

    def _interrupt(self, why: Outcome) -> None:
        # Only the work is cancelled, never its recording.
        self._interruption = self._interruption or why
        if self._work is not None:
            self._work.cancel()

    def _on_doubt(self, in_doubt: bool) -> None:
        if in_doubt:
            _log.warning("lease_in_doubt", **self.identity)
            self._writer.mute()
        else:
            self._writer.unmute()

    async def process(self) -> None:
        """Run the attempt to its end, whatever that is."""
        with attempt_span(self._claim, self._job) as traced:
            self._trace_parent = traced.trace_parent or self._trace_parent
            bind_contextvars(**self.identity)
            await self._process(traced)

    async def _process(self, traced: Span) -> None:
        self._measure_pickup()
        started = monotonic()
        try:
            outcome = await self._perform()
            ending = AttemptEnding(self._claim, self._clock, self._writer, self._to)
            name = await ending.record(outcome)
        finally:
            self._is_processing = False
            self._writer.close()
            self._to.leases.let_go(self._claim.fence)
        failure = outcome.code if isinstance(outcome, Failed) else None
        traced.note({"usa.ending": name})
        if failure is not None:
            traced.fail(failure)
        seconds = round(monotonic() - started, 3)
        _log.info("attempt_ended", ending=name, failure=failure, seconds=seconds)

    def _measure_pickup(self) -> None:
        # A job that is taken over from a lost worker has been due for nobody knows how long.
        if not self._job.crash_count:
            PICKUP_SECONDS.observe(max(0.0, -self._clock.seconds_until(self._job.available_at)))

    async def _perform(self) -> Outcome:
        if self._interruption is not None:
            return self._interruption
        work = self._work = self._to.background.spawn("attempt", self._run_agent())
        left = self._clock.seconds_until(self._job.deadline_at)
        await asyncio.wait({work}, timeout=max(0.0, left))
        while not work.done():
            message = "the job did not end before its deadline"
            self._interrupt(Failed("DEADLINE_EXCEEDED", message, retryable=False))
            await asyncio.wait({work}, timeout=_CANCEL_AGAIN)
        await self._attempt.bookings_done()
        return self._judge(work)

    def _judge(self, work: asyncio.Task[Outcome]) -> Outcome:
        """Believe the agent only if nobody interrupted it, or it succeeded all the same."""
        outcome = None if work.cancelled() else work.result()
        if self._interruption is None:
            message = "the agent's work was cancelled by something of its own"
            return outcome or Failed("PROCESSING_ERROR", message, retryable=True)
        # An error that replaced the cancellation, in some clean-up, must not count against the job.
        return outcome if isinstance(outcome, Succeeded) else self._interruption

    async def _run_agent(self) -> Outcome:
        agent = self._to.agents.get(self._job.agent)
        if agent is None:
            message = f"this worker has no agent {self._job.agent!r}"
            return Failed("PROCESSING_ERROR", message, retryable=True)
        if self._claim.is_damaged:
            # To go on without it would be to pay again; another version may read it.
            message = "this worker cannot read a finished call of the job"
            return Failed("PROCESSING_ERROR", message, retryable=True)
        try:
            return Succeeded(await agent.run(self._attempt))
        except StopRequested as stop:
            return stop.outcome
        except LeaseLost:
            return Superseded()
        except JobFailure as failure:
            return _failed(failure)
        except Unavailable as error:
            return Failed("PROCESSING_ERROR", str(error), retryable=True)
        except Exception as error:  # noqa: BLE001 - an agent's bug must end as a failed job
            _log.exception("agent_crashed")
            # The text of an unknown error may hold anything, so users see only its type.
            message = f"an unexpected {type(error).__name__} occurred"
            return Failed("PROCESSING_ERROR", message, retryable=False)


def _failed(failure: JobFailure) -> Failed:
    return Failed(
        failure.code,
        failure.message,
        retryable=failure.kind is not FailureKind.PERMANENT,
        retry_after=failure.retry_after,
        needs_operator=failure.kind is FailureKind.CONFIGURATION,
    )
