"""Stops a job between two iterations when its owner's tokens of the day are used up."""

from collections.abc import Collection
from uuid import UUID

from service.domain.outcome import OutOfQuota
from service.ports.attempts import UsageLedger
from service.supervision import retry_while_unavailable
from service.worker.stopping import StopRequested


class QuotaGate:
    """Asks once per iteration, and never within one: what has begun is finished."""

    def __init__(self, ledger: UsageLedger, job_id: UUID, begun: Collection[str]) -> None:
        self._ledger = ledger
        self._job_id = job_id
        self._entered = {_iteration(step) for step in begun}

    async def enter(self, step: str) -> None:
        """Return if the step's iteration has begun or may begin; raises `StopRequested`."""
        iteration = _iteration(step)
        if iteration in self._entered:
            return
        day = await retry_while_unavailable(
            "read_token_day", lambda: self._ledger.read_token_day(self._job_id)
        )
        if day is not None and not day.has_room:
            raise StopRequested(OutOfQuota(day.seconds_left))
        self._entered.add(iteration)


def _iteration(step: str) -> str:
    return step.partition("/")[0]
