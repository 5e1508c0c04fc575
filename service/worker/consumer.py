"""The read loop: entries for free slots, claimed in batches, each settled by its verdict."""

import random
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeAlias

from service.domain.attempt import Claim, Delivery, Verdict
from service.domain.errors import Unavailable
from service.ports import AttemptStore, ClaimTerms, JobStream
from service.supervision import Wakeup
from service.telemetry.logs import get_log
from service.telemetry.metrics import JOBS_CLAIMED, LOOP_FAILURES
from service.worker.dependencies import WorkerTerms
from service.worker.slots import Slots
from service.worker.unclaimed import Unclaimed

_log = get_log(__name__)

_LONGEST_IDLE = 1.0
# An entry that waited longer for its claim may be another consumer's by now.
_FRESH_FOR = 1.0
_LONGEST_PAUSE = 2.0

StartAttempt: TypeAlias = Callable[[Claim, float], None]


class Consumer:
    """Only this loop fills slots, so that it never reads more than they can take.

    Its task is never cancelled: a cancelled XREADGROUP may already have delivered entries.
    After any error it reads its own pending entries again.
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
        self.wake = Wakeup()
        self._is_stopping = False
        self._reclaimed_at = float("-inf")
        self._must_reread = True
        self._failures = 0

    def stop(self) -> None:
        """Read nothing more; the round under way ends, and what it read is released."""
        self._is_stopping = True
        self.wake()

    async def run(self) -> None:
        """Read and claim until stopped."""
        while not self._is_stopping:
            if not self._slots.free:
                await self.wake.wait(_LONGEST_IDLE)
                continue
            try:
                await self._round()
                self._failures = 0
            except Exception as error:  # noqa: BLE001 - a worker that stops reading is no use
                await self._recover(error)

    async def _recover(self, error: Exception) -> None:
        """Remember that entries may have been delivered unheard, and wait a little."""
        self._must_reread = True
        self._failures = min(self._failures + 1, 8)
        LOOP_FAILURES.labels(loop="consumer").inc()
        if self._failures == 1 or not isinstance(error, Unavailable):
            _log.warning("read_failed", error=repr(error), cause=repr(error.__cause__))
        pause = min(_LONGEST_PAUSE, 0.05 * 2.0**self._failures)
        await self.wake.wait(pause * (0.5 + random.random() / 2))  # noqa: S311 - jitter, no secret

    async def _round(self) -> None:
        if self._must_reread:
            self._must_reread = False
            await self._take(await self._stream.read_own_pending())
        if monotonic() - self._reclaimed_at >= self._terms.reclaim_every and self._slots.free:
            self._reclaimed_at = monotonic()
            await self._take(await self._stream.reclaim(self._slots.free))
        if self._slots.free and not self._is_stopping:
            await self._take(await self._stream.read_new(self._slots.free))

    async def _take(self, deliveries: Sequence[Delivery]) -> None:
        """Claim each job once, as many as there are free slots; give back what is too much."""
        heard_at = monotonic()
        waiting = [d for d in deliveries if self._slots.running(d.job_id) is None]
        while waiting:
            if self._is_stopping or not self._slots.free:
                await self._stream.release_if_owner(waiting)
                return
            if monotonic() - heard_at > _FRESH_FOR:
                self._must_reread = True
                return
            batch = _distinct(waiting, self._slots.free)
            await self._claim(batch)
            waiting = [d for d in waiting if d not in batch]

    async def _claim(self, batch: Sequence[Delivery]) -> None:
        terms = ClaimTerms(
            worker_id=self._worker_id,
            lease=self._terms.lease,
            max_crashes=self._terms.max_crashes,
            suspects_allowed=max(0, 1 - self._slots.suspects),
        )
        sent_at = monotonic()
        for claim in await self._attempts.claim(batch, terms):
            JOBS_CLAIMED.labels(verdict=claim.verdict.value).inc()
            if claim.verdict is Verdict.CLAIMED:
                self._start(claim, sent_at)
            else:
                self._unclaimed.settle(claim)


def _distinct(deliveries: Sequence[Delivery], limit: int) -> list[Delivery]:
    """Return the first delivery of each job, up to `limit`."""
    first = {delivery.job_id: delivery for delivery in reversed(deliveries)}
    return [d for d in deliveries if first[d.job_id] is d][:limit]
