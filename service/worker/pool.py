"""A worker: reads jobs, runs as many as it has slots, and hands back what it cannot finish."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from time import monotonic
from typing import TypeAlias
from uuid import UUID

from service.domain.attempt import Claim
from service.domain.errors import Unavailable
from service.domain.events import JobEvent
from service.domain.job import JobStatus
from service.ports.queue import JobStream, Nudges, Wake
from service.ports.queue_control import QueueControl
from service.supervision import Background, Periodic
from service.telemetry.logs import get_log
from service.telemetry.metrics import SLOTS
from service.worker.consumer import Consumer
from service.worker.dependencies import AttemptDependencies, WorkerTerms
from service.worker.pause_watch import PauseWatch
from service.worker.processor import JobProcessor
from service.worker.slots import Slots
from service.worker.unclaimed import Unclaimed

_log = get_log(__name__)

Listener: TypeAlias = Callable[[JobEvent], None]

_RECORDING = 5.0
_LEAVING = 2.0
_LAST_PART = 0.2
# A pause and its end reach every worker within two seconds.
_LOOK_EVERY = 1.0
_LOOK_AGAIN_WITHIN = 2.0


class WorkerPool:
    """Starts once and stops once; stopping it again, or before its start, does nothing.

    `vital` runs the loops without which a worker is no use. `on_claim` is called when jobs have
    been taken from the queue, so that it can be refilled.
    """

    def __init__(
        self,
        dependencies: AttemptDependencies,
        stream: JobStream,
        nudges: Nudges,
        control: QueueControl,
        terms: WorkerTerms,
        *,
        vital: Background,
        on_claim: Wake,
    ) -> None:
        self._to = dependencies
        self._stream = stream
        self._nudges = nudges
        self._concurrency = terms.concurrency
        self._grace = terms.shutdown_grace
        self._vital = vital
        self._on_claim = on_claim
        self._slots = Slots(terms.concurrency)
        self._listeners: defaultdict[UUID, set[Listener]] = defaultdict(set)
        self._attempts = Background()
        self._deadline: float | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._reading: asyncio.Task[None] | None = None
        self._consumer = Consumer(
            stream,
            dependencies.attempts,
            self._slots,
            Unclaimed(
                stream,
                dependencies.attempts,
                dependencies.events,
                dependencies.acknowledger,
                self._attempts,
                event_retention=dependencies.event_retention,
            ),
            terms,
            worker_id=dependencies.worker_id,
            start=self._start_attempt,
        )
        pauses = PauseWatch(control, self._slots, on_resume=self._consumer.slots_opened)
        self._pauses = Periodic("pause", pauses.look, _LOOK_EVERY, max_backoff=_LOOK_AGAIN_WITHIN)

    @property
    def worker_id(self) -> str:
        """The name under which this worker claims jobs and reads entries."""
        return self._to.worker_id

    @property
    def processors(self) -> list[JobProcessor]:
        """The attempts that run now."""
        return list(self._slots)

    @property
    def is_draining(self) -> bool:
        """Whether it has stopped taking jobs."""
        return self._deadline is not None

    @property
    def at_next_call(self) -> bool:
        """Whether attempts should stop at their next finished call: the grace is nearly over."""
        return self._deadline is not None and (
            self._deadline - monotonic() < _LAST_PART * self._grace
        )

    async def start(self) -> None:
        """Begin to take jobs."""
        self._to.leases.start()
        self._loops = [
            self._vital.spawn("lease_tick", self._to.leases.tick()),
            self._vital.spawn("pause", self._pauses.run()),
            self._vital.spawn("nudges", self._nudges.listen(self._on_cancel)),
        ]
        self._reading = self._vital.spawn("consumer", self._consumer.run())
        _log.info("worker_started", worker=self.worker_id, concurrency=self._concurrency)

    async def stop(self) -> None:
        """Take no more jobs, let the running ones end within the grace, hand back the rest."""
        if self._reading is None or self.is_draining:
            return
        self._deadline = monotonic() + self._grace
        _log.info("worker_draining", worker=self.worker_id, running=len(self._slots))
        self._consumer.stop()
        try:
            await self._end_within_grace(self._reading, self._deadline)
        finally:
            # Also when asked to hurry: it takes moments, and saves others the wait for a lease.
            await self._hand_back(self._reading)

    async def _hand_back(self, reading: asyncio.Task[None]) -> None:
        await asyncio.wait({reading}, timeout=_RECORDING)
        handed_back = len(self._slots)
        for processor in self._slots:
            processor.hand_back()
        await self._attempts.drain(_RECORDING)
        await self._attempts.cancel()
        await self._vital.cancel(self._loops)
        await self._to.leases.stop()
        await self._leave()
        SLOTS.labels(state="free").set(0)
        _log.info("worker_stopped", worker=self.worker_id, handed_back=handed_back)

    async def _end_within_grace(self, reading: asyncio.Task[None], deadline: float) -> None:
        # The consumer first: what it claims in its last round is still to be waited for. However
        # short the grace, its last read must end: what is cut off was delivered to nobody.
        await asyncio.wait({reading}, timeout=max(self._grace, _RECORDING))
        if not reading.done():
            _log.error("consumer_did_not_end", worker=self.worker_id)
        await self._attempts.drain(max(0.0, deadline - monotonic()))

    async def _leave(self) -> None:
        try:
            # A server that answers nothing is asked again and again, far beyond any grace.
            async with asyncio.timeout(_LEAVING):
                await self._stream.leave()
        except (Unavailable, TimeoutError) as error:
            _log.warning("consumer_not_removed", worker=self.worker_id, error=repr(error))

    def subscribe_to_job(self, job_id: UUID, listener: Listener) -> Callable[[], None]:
        """Hear the events of a job that runs here; returns how to unsubscribe."""
        self._listeners[job_id].add(listener)

        def unsubscribe() -> None:
            listeners = self._listeners.get(job_id, set())
            listeners.discard(listener)
            if not listeners:
                self._listeners.pop(job_id, None)

        return unsubscribe

    def _tell(self, event: JobEvent, job_id: UUID) -> None:
        for listener in list(self._listeners.get(job_id, ())):
            listener(event)

    def _start_attempt(self, claim: Claim, claimed_at: float) -> None:
        job_id = claim.delivery.job_id
        processor = JobProcessor(
            claim,
            self._to,
            claimed_at=claimed_at,
            drain=self,
            listener=lambda event: self._tell(event, job_id),
        )
        self._slots.occupy(job_id, processor)
        self._attempts.spawn("process", self._process(job_id, processor))
        self._on_claim()

    async def _process(self, job_id: UUID, processor: JobProcessor) -> None:
        try:
            await processor.process()
        finally:
            self._slots.vacate(job_id)
            self._consumer.job_ended(job_id)

    def _on_cancel(self, job_id: UUID) -> None:
        processor = self._slots.running(job_id)
        if processor is not None:
            self._attempts.spawn("nudged", self._abort_if_superseded(job_id, processor))

    async def _abort_if_superseded(self, job_id: UUID, processor: JobProcessor) -> None:
        """Believe Postgres, not the nudge: an abort for nothing would cost a paid call."""
        try:
            row = (await self._to.attempts.read_fences([job_id])).get(job_id)
        except Unavailable as error:
            _log.warning("nudge_not_verified", error=str(error), **processor.identity)
            return
        if row is None or (row.attempt, row.status) != (processor.attempt, JobStatus.PROCESSING):
            processor.abort()
