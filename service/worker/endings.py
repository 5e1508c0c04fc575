"""Records how an attempt ended: commit, then event, then acknowledgement."""

import random
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from service.domain.attempt import Claim
from service.domain.errors import Unavailable
from service.domain.events import EventId, EventType, final_event, timestamp
from service.domain.job import Job, JobStatus, JsonObject
from service.domain.outcome import Failed, Outcome
from service.domain.transitions import (
    Abandon,
    Complete,
    Fail,
    HandBack,
    Postpone,
    Retry,
    Transition,
    decide,
)
from service.supervision import retry_while_unavailable
from service.telemetry.logs import get_log
from service.telemetry.metrics import ATTEMPTS_ENDED, JOB_SECONDS, LOST_MARKS, WRITES_FENCED
from service.worker.claim_clock import ClaimClock
from service.worker.dependencies import AttemptDependencies
from service.worker.event_writer import EventWriter

_log = get_log(__name__)

_FLUSH_PATIENCE = 2.0


class _Unstorable(Exception):
    """Postgres is there and refuses the outcome; the cause says why."""


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _Unstorable from error


class AttemptEnding:
    """Every step may be repeated without effect, so a crash between any two is repaired."""

    def __init__(
        self,
        claim: Claim,
        clock: ClaimClock,
        writer: EventWriter,
        dependencies: AttemptDependencies,
    ) -> None:
        if claim.job is None:
            raise ValueError("only a claimed job has an ending")
        self._job: Job = claim.job
        self._fence = claim.fence
        self._delivery = claim.delivery
        self._clock = clock
        self._writer = writer
        self._to = dependencies

    async def record(self, outcome: Outcome) -> str:
        """Write the outcome down unless the attempt is no longer current; returns its name."""
        try:
            name = await self._record(outcome)
        except _Unstorable as error:
            # It will never be storable, so the job must not be tried for ever.
            _log.error("outcome_not_stored", job=str(self._job.id), exc_info=error.__cause__)
            message = "the job's outcome could not be stored"
            name = await self._record(Failed("PROCESSING_ERROR", message, retryable=False))
        ATTEMPTS_ENDED.labels(ending=name).inc()
        return name

    async def _record(self, outcome: Outcome) -> str:
        jitter = random.random()  # noqa: S311 - spreads retries, no secret
        transition = decide(self._job, outcome, self._to.policy, jitter=jitter)
        match transition:
            case Complete(result):
                return await self._end(Complete(await self._with_totals(result)))
            case Fail():
                return await self._end(transition)
            case Retry():
                return await self._retry(transition)
            case Postpone():
                return await self._postpone(transition)
            case HandBack():
                return await self._hand_back(transition)
            case Abandon():
                return await self._step_aside()

    async def _with_totals(self, result: JsonObject) -> JsonObject:
        """Replace what the agent counted by what the ledger says, repeated calls included."""
        with _storing():
            totals = await retry_while_unavailable(
                "totals", lambda: self._to.ledger.totals(self._job.id)
            )
            cost = None if totals.cost_usd is None else float(totals.cost_usd)
            return {**result, "tokenUsage": totals.usage.as_json(), "costUsd": cost}

    async def _commit(self, transition: Transition, final_id: EventId | None) -> bool:
        with _storing():
            recorded = await retry_while_unavailable(
                "record_if_current",
                lambda: self._to.attempts.record_if_current(self._fence, transition, final_id),
            )
        if not recorded.applied:
            WRITES_FENCED.labels(write="ending").inc()
        return recorded.applied

    async def _end(self, transition: Complete | Fail) -> str:
        final_id = self._writer.reserve_final()
        if not await self._commit(transition, final_id):
            return await self._step_aside()
        ended = _as_ended(self._job, transition, final_id)
        event = final_event(ended)
        if event is None:
            raise AssertionError("an ended job has a final event")
        JOB_SECONDS.labels(status=ended.status.value).observe(self._age())
        if await self._writer.finish(event):
            cleared = self._to.attempts.clear_event_pending(ended.id, event.id)
            await self._lazily("clear_event_pending", cleared)
            await self._to.acknowledger.acknowledge(self._delivery)
        # Otherwise the entry stays: whoever gets it next, or maintenance, appends the event.
        return ended.status.value

    def _age(self) -> float:
        return max(0.0, -self._clock.seconds_until(self._job.created_at))

    async def _retry(self, retry: Retry) -> str:
        if not await self._commit(retry, None):
            return await self._step_aside()
        available_at = self._clock.now() + timedelta(seconds=retry.delay)
        details = {
            "reason": "error",
            "code": retry.code,
            "availableAt": timestamp(available_at),
        }
        self._writer.emit(EventType.RETRYING, details)
        await self._writer.flush(_FLUSH_PATIENCE)
        await self._to.acknowledger.acknowledge(self._delivery)
        return "retried"

    async def _postpone(self, postpone: Postpone) -> str:
        if not await self._commit(postpone, None):
            return await self._step_aside()
        until = self._clock.now() + timedelta(seconds=postpone.delay)
        self._writer.emit(EventType.WAITING, {"reason": "quota", "until": timestamp(until)})
        await self._writer.flush(_FLUSH_PATIENCE)
        await self._to.acknowledger.acknowledge(self._delivery)
        return "postponed"

    async def _hand_back(self, transition: HandBack) -> str:
        if not await self._commit(transition, None):
            return await self._step_aside()
        await self._writer.flush(_FLUSH_PATIENCE)
        await self._lazily("hand_back_entry", self._ring_again())
        await self._to.acknowledger.acknowledge(self._delivery)
        return "handed_back"

    async def _ring_again(self) -> None:
        """Add the entry at once; if that fails the relay does it two seconds later."""
        entry = await self._to.entries.add_entry(
            self._job.id, self._job.attempt, self._job.trace_parent
        )
        await self._to.attempts.mark_entry(self._fence, entry.entry_id)

    async def _step_aside(self) -> str:
        """Acknowledge only an entry that nobody needs: the job ended, or has another entry."""
        job_id, entry_id = self._job.id, self._delivery.entry_id
        try:
            row = (await self._to.attempts.read_fences([job_id])).get(job_id)
        except Unavailable as error:
            _log.warning("entry_left_pending", job=str(job_id), error=str(error))
            return "superseded"
        is_terminal = row is None or row.status is None or row.status.is_terminal
        if is_terminal or (row is not None and row.entry_id != entry_id):
            await self._to.acknowledger.acknowledge(self._delivery)
        return "superseded"

    async def _lazily(self, write: str, act: Awaitable[None]) -> None:
        try:
            await act
        except Unavailable as error:
            LOST_MARKS.labels(write=write).inc()
            job = str(self._job.id)
            _log.warning("left_to_maintenance", write=write, job=job, error=str(error))


def _as_ended(job: Job, transition: Complete | Fail, final_id: EventId) -> Job:
    if isinstance(transition, Complete):
        return replace(
            job,
            status=JobStatus.COMPLETED,
            result=transition.result,
            final_event_id=str(final_id),
        )
    return replace(
        job, status=JobStatus.FAILED, error=transition.as_json(), final_event_id=str(final_id)
    )
