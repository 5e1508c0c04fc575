"""Deletes what nobody needs any more: old rows, dead consumers, entries that are nobody's."""

from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic

from service.maintenance.rounds import in_batches, take_all
from service.ports.upkeep import RetentionStore, StreamLeftovers
from service.telemetry.logs import get_log
from service.telemetry.metrics import PRUNED

_log = get_log(__name__)

_BATCH = 200
# Well before Postgres ends the transaction that holds the lock, because it idles meanwhile.
_LONGEST_ROUND = 5.0


class Pruner:
    """One works at a time, in bounded batches; what is left goes in the next round.

    `job_days` and `ledger_days` are how long ended jobs and the ledger are kept, in days;
    `dead_after` is how long a consumer must have been silent, in seconds.
    """

    def __init__(
        self,
        rows: RetentionStore,
        leftovers: StreamLeftovers,
        *,
        job_days: int,
        ledger_days: int,
        dead_after: float,
    ) -> None:
        self._rows = rows
        self._leftovers = leftovers
        self._job_days = job_days
        self._ledger_days = ledger_days
        self._dead_after = dead_after

    async def run_once(self) -> int:
        """Delete what can be deleted now; returns how many things. Raises `Unavailable`.

        What needs only Postgres is done even while Redis is away.
        """
        async with self._rows.only_pruner() as is_ours:
            return await self._prune() if is_ours else 0

    async def _prune(self) -> int:
        until, rows = monotonic() + _LONGEST_ROUND, self._rows

        async def delete(what: str, act: Callable[[int], Awaitable[int]]) -> int:
            return _count(what, await in_batches(act, _BATCH, until=until))

        return await take_all(
            (
                partial(delete, "job", partial(rows.delete_ended_jobs, self._job_days)),
                partial(delete, "idempotency_key", rows.delete_expired_keys),
                partial(delete, "call", partial(rows.delete_old_calls, self._ledger_days)),
                partial(delete, "day", partial(rows.delete_old_days, self._ledger_days)),
                self._remove_dead_consumers,
                self._delete_stray_entries,
            )
        )

    async def _remove_dead_consumers(self) -> int:
        return _count("consumer", await self._leftovers.remove_dead_consumers(self._dead_after))

    async def _delete_stray_entries(self) -> int:
        return _count("entry", await self._leftovers.delete_stray_entries())


def _count(what: str, number: int) -> int:
    if number:
        PRUNED.labels(what=what).inc(number)
        _log.info("pruned", what=what, number=number)
    return number
