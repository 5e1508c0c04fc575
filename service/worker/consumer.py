"""The read loop: entries for free slots, claimed in batches, each settled by its verdict."""

import random
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeAlias
from uuid import UUID

from service.domain.attempt import Claim, Delivery, Verdict
from service.domain.errors import Unavailable
from service.ports.attempts import AttemptStore, ClaimTerms
from service.ports.queue import JobStream
from service.supervision import Wakeup, retry_while_unavailable
from service.telemetry.logs import get_log
from service.telemetry.metrics import ENTRIES_DELIVERED, JOBS_CLAIMED, LOOP_FAILURES
from service.worker.dependencies import WorkerTerms
from service.worker.slots import Slots
from service.worker.unclaimed import Unclaimed

_log = get_log(__name__)

_LONGEST_IDLE = 1.0
# An entry that waited longer for its claim may be another consumer's by now.
_FRESH_FOR = 1.0
_LONGEST_PAUSE = 2.0
_KEPT_FAILURES = 4
_RELEASE_PATIENCE = 1.0

StartAttempt: TypeAlias = Callable[[Claim, float], None]


class Consumer:
    """Only this loop fills slots, so that it never reads more than they can take.

    Its task is never cancelled: a cancelled XREADGROUP may already have delivered entries.
    After any error it reads its own pending entries again. What it cannot claim, because it
    stops or Postgres does not answer it, it leaves to others at once.
    """

    def __init__(
        self,
        stream: JobStream,
        attempts: AttemptStore,
        slots: Slots,
        unclaimed: Unclaimed,
        terms: WorkerTerms,
        *,
        worker_id: str,
        start: StartAttempt,
    ) -> None:
        self._stream = stream
        self._attempts = attempts
        self._slots = slots
        self._unclaimed = unclaimed
        self._terms = terms
        self._worker_id = worker_id
        self._start = start
        self._wake = Wakeup()
        self._is_stopping = False
        self._reclaimed_at = float("-inf")
        self._must_reread = True
        self._postponed: set[UUID] = set()
        self._failures = 0

    def stop(self) -> None:
        """Read nothing more; the round under way ends, and what was not claimed is released."""
        self._is_stopping = True
        self._wake()

    def slots_opened(self) -> None:
        """Read on at once."""
        self._wake()

    def job_ended(self, job_id: UUID) -> None:
        """Fill its slot again, and look at what else has rung for it."""
        if job_id in self._postponed:
            self._postponed.discard(job_id)
            self._must_reread = True
        self._wake()

    async def run(self) -> None:
        """Read and claim until stopped."""
        while not self._is_stopping:
            if not self._slots.free:
                await self._wake.wait(_LONGEST_IDLE)
                continue
            try:
                await self._round()
                self._failures = 0
            except Exception as error:  # noqa: BLE001 - a worker that stops reading is no use
                await self._recover(error)
        await self._give_back()

    async def _recover(self, error: Exception) -> None:
        """Remember that entries may have been delivered unheard, and wait a little."""
        self._must_reread = True
        self._failures += 1
        LOOP_FAILURES.labels(loop="consumer").inc()
        if self._failures == 1 or not isinstance(error, Unavailable):
            _log.warning("read_failed", error=repr(error), cause=repr(error.__cause__))
        pause = min(_LONGEST_PAUSE, 0.05 * 2.0 ** min(self._failures, 8))
        await self._wake.wait(pause * (0.5 + random.random() / 2))  # noqa: S311 - jitter, no secret

    async def _give_back(self) -> None:
        """Release all that is pending here and does not run here; else it waits for a lease."""

        async def release() -> None:
            held = await self._stream.read_own_pending()
            await self._stream.release_if_owner([d for d in held if not self._runs(d)])

        try:
            await retry_while_unavailable("release", release, patience=_RELEASE_PATIENCE)
        except Exception as error:  # noqa: BLE001 - the entries fall idle by themselves, only later
            _log.warning("entries_not_released", error=repr(error))

    async def _round(self) -> None:
        if self._must_reread:
            self._must_reread = False
            await self._take("own", await self._stream.read_own_pending())
        is_due = monotonic() - self._reclaimed_at >= self._terms.reclaim_every
        if is_due and self._wants_more:
            self._reclaimed_at = monotonic()
            await self._take("reclaimed", await self._stream.reclaim(self._slots.free))
        if self._wants_more:
            await self._take("new", await self._stream.read_new(self._slots.free))

    @property
    def _wants_more(self) -> bool:
        return self._slots.free > 0 and not self._is_stopping

    async def _take(self, source: str, deliveries: Sequence[Delivery]) -> None:
        """Claim what does not run here, as much as there are free slots; give back the rest."""
        ENTRIES_DELIVERED.labels(source=source).inc(len(deliveries))
        heard_at = monotonic()
        waiting = deliveries
        while waiting := self._startable(waiting):
            if not self._wants_more:
                await self._stream.release_if_owner(waiting)
                return
            if monotonic() - heard_at > _FRESH_FOR:
                self._must_reread = True
                return
            batch = waiting[: self._slots.free]
            await self._claim(batch)
            waiting = waiting[len(batch) :]

    def _startable(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Leave out jobs that run here: a claim of one's own job would start it twice."""
        startable = []
        for delivery in deliveries:
            if self._slots.running(delivery.job_id) is None:
                startable.append(delivery)
            elif not self._runs(delivery):
                self._postponed.add(delivery.job_id)
        return startable

    def _runs(self, delivery: Delivery) -> bool:
        """Whether an attempt runs here through this very entry, and will acknowledge it."""
        processor = self._slots.running(delivery.job_id)
        return processor is not None and processor.entry_id == delivery.entry_id

    async def _claim(self, batch: Sequence[Delivery]) -> None:
        terms = ClaimTerms(
            worker_id=self._worker_id,
            lease=self._terms.lease,
            max_crashes=self._terms.max_crashes,
            suspects_allowed=max(0, 1 - self._slots.suspects),
        )
        sent_at = monotonic()
        try:
            claims = await self._attempts.claim(batch, terms)
        except Unavailable:
            # Claimed again at first, because only the answer may be lost. Then it is others' turn.
            if self._failures >= _KEPT_FAILURES:
                await self._stream.release_if_owner(batch)
            raise
        for claim in claims:
            JOBS_CLAIMED.labels(verdict=claim.verdict.value).inc()
            if claim.verdict is Verdict.CLAIMED:
                self._start(claim, sent_at)
            else:
                self._unclaimed.settle(claim)
