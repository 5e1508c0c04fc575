"""Leases of this worker's jobs, renewed from a thread of their own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import TypeAlias

from service.domain.attempt import Delivery, Fence
from service.domain.errors import Unavailable
from service.ports.attempts import LeaseStore
from service.ports.queue import EntryLeases
from service.telemetry.logs import get_log
from service.telemetry.metrics import LEASE_AGE_SECONDS, LEASE_RENEWALS

_log = get_log(__name__)

_TICK = 0.25
_LONGEST_STALL = 5.0
_DOUBT_AFTER = 0.6

# Opened inside the thread, because connections belong to the loop that opened them.
OpenStores: TypeAlias = Callable[[], AbstractAsyncContextManager[tuple[LeaseStore, EntryLeases]]]


class Lease:
    """This process's hold on one attempt, as seen from its event loop."""

    def __init__(
        self,
        fence: Fence,
        delivery: Delivery,
        *,
        since: float,
        lasts: float,
        on_lost: Callable[[], None],
        on_doubt: Callable[[bool], None],
    ) -> None:
        self.fence = fence
        self.delivery = delivery
        self.renewed_at = since
        self._lasts = lasts
        self._was_in_doubt = False
        self.on_lost = on_lost
        self._on_doubt = on_doubt

    @property
    def age(self) -> float:
        """Seconds since the last renewal that worked was sent."""
        return monotonic() - self.renewed_at

    @property
    def in_doubt(self) -> bool:
        """Whether so much of the lease has passed since a renewal was sent that it may end."""
        return self.age > _DOUBT_AFTER * self._lasts

    def check(self) -> None:
        """Tell the attempt when doubt begins and when it ends."""
        in_doubt = self.in_doubt
        if in_doubt != self._was_in_doubt:
            self._was_in_doubt = in_doubt
            self._on_doubt(in_doubt)


Renew: TypeAlias = Callable[[Sequence[Lease]], Awaitable[None]]


class LeaseKeeper:
    """Renews in Postgres and in Redis, each independently of the other; times in seconds.

    Renewal stops while the event loop that runs the jobs does not tick, so that a stuck
    process loses its jobs; it survives every error.
    """

    def __init__(
        self, open_stores: OpenStores, *, worker_id: str, lease: float, renew_every: float
    ) -> None:
        self._open_stores = open_stores
        self._worker_id = worker_id
        self._lease = lease
        self._renew_every = renew_every
        self._held: dict[Fence, Lease] = {}
        self._lock = threading.Lock()
        self._ticked_at = monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._main: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the thread; call from the loop that runs the jobs."""
        self._main = asyncio.get_running_loop()
        self._thread.start()

    async def tick(self) -> None:
        """Show that the event loop is alive, for as long as this runs."""
        while True:
            self._ticked_at = monotonic()
            held = self._snapshot()
            for lease in held:
                lease.check()
            LEASE_AGE_SECONDS.set(max((lease.age for lease in held), default=0.0))
            await asyncio.sleep(_TICK)

    async def stop(self) -> None:
        """Stop renewing; what is still held runs out by itself."""
        self._stopping.set()
        await asyncio.to_thread(self._thread.join, self._renew_every + 1.0)

    def hold(
        self,
        fence: Fence,
        delivery: Delivery,
        *,
        since: float,
        on_lost: Callable[[], None],
        on_doubt: Callable[[bool], None],
    ) -> Lease:
        """Start renewing; `since` is when the claim was sent, on the monotonic clock."""
        lease = Lease(
            fence, delivery, since=since, lasts=self._lease, on_lost=on_lost, on_doubt=on_doubt
        )
        with self._lock:
            self._held[fence] = lease
        return lease

    def let_go(self, fence: Fence) -> None:
        """Stop renewing one attempt."""
        with self._lock:
            self._held.pop(fence, None)

    def _snapshot(self) -> list[Lease]:
        with self._lock:
            return list(self._held.values())

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                asyncio.run(self._renew_until_stopped())
            except Exception:  # noqa: BLE001 - without this thread every job of the worker is lost
                LEASE_RENEWALS.labels(server="all", result="failed").inc()
                _log.exception("lease_thread_restarts")
                self._stopping.wait(1.0)

    async def _renew_until_stopped(self) -> None:
        async with self._open_stores() as (postgres, redis):
            await asyncio.gather(
                self._repeat("postgres", lambda held: self._renew_rows(postgres, held)),
                self._repeat("redis", lambda held: self._renew_entries(redis, held)),
            )

    async def _repeat(self, server: str, renew: Renew) -> None:
        while not self._stopping.is_set():
            started = monotonic()
            await self._round(server, renew)
            await self._pause(started + self._renew_every)

    async def _pause(self, until: float) -> None:
        # A threading event cannot be awaited, so it is looked at often.
        while (left := until - monotonic()) > 0 and not self._stopping.is_set():  # noqa: ASYNC110
            await asyncio.sleep(min(left, _TICK))

    async def _round(self, server: str, renew: Renew) -> None:
        """Renew once; whatever goes wrong, the next round tries again."""
        held = self._snapshot()
        if not held:
            return
        stalled_for = monotonic() - self._ticked_at
        if stalled_for > _LONGEST_STALL:
            LEASE_RENEWALS.labels(server=server, result="stalled").inc()
            _log.error("event_loop_stalled", server=server, seconds=round(stalled_for, 1))
            return
        result = "renewed"
        try:
            async with asyncio.timeout(max(self._renew_every, 1.0)):
                await renew(held)
        except (Unavailable, TimeoutError) as error:
            result = "unavailable"
            _log.warning("renewal_unavailable", server=server, error=repr(error))
        except Exception:  # noqa: BLE001 - without renewals every job of the worker is lost
            result = "failed"
            _log.exception("renewal_failed", server=server)
        LEASE_RENEWALS.labels(server=server, result=result).inc()

    async def _renew_rows(self, postgres: LeaseStore, held: Sequence[Lease]) -> None:
        sent_at = monotonic()
        fences = sorted(lease.fence for lease in held)
        kept = await postgres.renew(self._worker_id, fences, self._lease)
        for lease in held:
            if lease.fence in kept:
                lease.renewed_at = sent_at
            else:
                self._report_lost(lease)

    def _report_lost(self, lease: Lease) -> None:
        with self._lock:
            is_held = self._held.get(lease.fence) is lease
        if is_held and self._main is not None and not self._main.is_closed():
            self._main.call_soon_threadsafe(lease.on_lost)

    async def _renew_entries(self, redis: EntryLeases, held: Sequence[Lease]) -> None:
        # Entries that are somebody else's by now are no loss: only Postgres decides about leases.
        await redis.renew_if_owner([lease.delivery for lease in held])
