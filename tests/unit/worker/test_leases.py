"""Leases: renewed whatever happens, doubted in time, lost only when Postgres says so."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from uuid import UUID

import pytest

from service.domain.attempt import Delivery, Fence
from service.domain.errors import Unavailable
from service.ports.attempts import LeaseStore
from service.ports.queue import EntryLeases
from service.telemetry.metrics import REGISTRY
from service.worker import leases
from service.worker.leases import Lease, LeaseKeeper
from tests.fixtures.waiting import eventually

LEASE = 1.0
RENEW_EVERY = 0.05
FENCE = Fence(UUID(int=7), 3)
DELIVERY = Delivery("jobs", "5-0", FENCE.job_id)


@dataclass
class Server:
    """Either server, as the lease thread sees it."""

    failure: Exception | None = None
    hangs: bool = False
    seconds: float = 0.0
    asked_at: list[float] = field(default_factory=list)
    lost: set[Fence] = field(default_factory=set)
    threads: set[int] = field(default_factory=set)
    asked: int = 0
    answered: int = 0

    async def renew(self, worker_id: str, fences: Sequence[Fence], lease: float) -> set[Fence]:
        assert (worker_id, lease) == ("worker-1", LEASE)
        await self._answer()
        return set(fences) - self.lost

    async def renew_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        await self._answer()
        return len(deliveries)

    async def _answer(self) -> None:
        self.asked += 1
        self.asked_at.append(monotonic())
        self.threads.add(threading.get_ident())
        if self.hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        self.answered += 1


@dataclass
class Bench:
    """A keeper at work, its two servers, and what the attempt that holds a lease was told."""

    keeper: LeaseKeeper
    postgres: Server
    redis: Server
    lost: list[int] = field(default_factory=list)
    doubts: list[bool] = field(default_factory=list)

    def hold(self, fence: Fence = FENCE, *, since: float | None = None) -> Lease:
        return self.keeper.hold(
            fence,
            DELIVERY,
            since=monotonic() if since is None else since,
            on_lost=lambda: self.lost.append(threading.get_ident()),
            on_doubt=self.doubts.append,
        )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_TICK", 0.01)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with at_work() as bench:
        yield bench


@asynccontextmanager
async def at_work(openings: list[Exception] | None = None) -> AsyncIterator[Bench]:
    postgres, redis = Server(), Server()

    @asynccontextmanager
    async def open_stores() -> AsyncIterator[tuple[LeaseStore, EntryLeases]]:
        if openings:
            raise openings.pop()
        yield postgres, redis

    keeper = LeaseKeeper(open_stores, worker_id="worker-1", lease=LEASE, renew_every=RENEW_EVERY)
    keeper.start()
    ticking = asyncio.create_task(keeper.tick())
    yield Bench(keeper, postgres, redis)
    ticking.cancel()
    await keeper.stop()


async def more(count: Callable[[], int], by: int = 2) -> None:
    """Return when a number has grown."""
    before = count()
    await eventually(lambda: count() >= before + by, what="renewals go on")


def renewals(server: str, result: str) -> float:
    name = "usa_lease_renewals_total"
    return REGISTRY.get_sample_value(name, {"server": server, "result": result}) or 0.0


async def test_a_held_lease_is_renewed_in_both_servers_from_another_thread(bench: Bench) -> None:
    since = monotonic()
    lease = bench.hold(since=since)

    await more(lambda: bench.postgres.answered)
    await more(lambda: bench.redis.answered)

    assert lease.renewed_at > since
    assert threading.get_ident() not in bench.postgres.threads | bench.redis.threads
    assert (bench.lost, bench.doubts) == ([], [])


async def test_nobody_is_asked_about_nothing(bench: Bench) -> None:
    bench.hold()
    await more(lambda: bench.postgres.answered)
    bench.keeper.let_go(FENCE)
    await asyncio.sleep(2 * RENEW_EVERY)  # what was under way
    asked = bench.postgres.asked, bench.redis.asked

    await asyncio.sleep(4 * RENEW_EVERY)

    assert (bench.postgres.asked, bench.redis.asked) == asked


async def test_what_is_no_longer_ours_is_reported_in_the_loop_that_runs_the_job(
    bench: Bench,
) -> None:
    kept = Fence(UUID(int=8), 1)
    bench.hold()
    bench.hold(kept)
    bench.postgres.lost = {FENCE}

    await eventually(lambda: bench.lost)

    assert set(bench.lost) == {threading.get_ident()}
    bench.keeper.let_go(FENCE)
    told = len(bench.lost)
    await more(lambda: bench.postgres.answered)
    assert len(bench.lost) == told


async def test_an_attempt_that_was_let_go_meanwhile_is_not_reported(bench: Bench) -> None:
    bench.postgres.hangs = True
    bench.hold()
    await eventually(lambda: bench.postgres.asked)
    lease = bench.keeper._snapshot()[0]
    bench.keeper.let_go(FENCE)

    bench.keeper._report_lost(lease)

    await asyncio.sleep(0.05)
    assert bench.lost == []


@pytest.mark.parametrize(
    "trouble", [Unavailable("Postgres"), TimeoutError(), RuntimeError("a bug")], ids=repr
)
async def test_an_error_is_no_loss_and_renewals_go_on(bench: Bench, trouble: Exception) -> None:
    lease = bench.hold()
    bench.postgres.failure = trouble
    await more(lambda: bench.postgres.asked, by=3)
    assert bench.lost == []
    renewed_at = lease.renewed_at

    bench.postgres.failure = None

    await eventually(lambda: lease.renewed_at > renewed_at)


@pytest.mark.parametrize(("silent", "other"), [("postgres", "redis"), ("redis", "postgres")])
async def test_a_server_that_does_not_answer_does_not_hold_up_the_other(
    bench: Bench, silent: str, other: str
) -> None:
    unavailable = renewals(silent, "unavailable")
    getattr(bench, silent).hangs = True
    bench.hold()

    await eventually(lambda: getattr(bench, other).answered >= 5, within=0.9)
    await eventually(lambda: renewals(silent, "unavailable") > unavailable)
    getattr(bench, silent).hangs = False

    await more(lambda: getattr(bench, silent).answered)


async def test_the_thread_survives_stores_that_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = renewals("all", "failed")
    async with at_work([OSError("no such host"), RuntimeError("a bug")]) as bench:
        monkeypatch.setattr(bench.keeper._stopping, "wait", lambda _: time.sleep(0.01))
        bench.hold()

        await more(lambda: bench.postgres.answered)

    assert renewals("all", "failed") == failures + 2


async def test_doubt_begins_after_most_of_a_lease_and_ends_with_the_next_renewal(
    bench: Bench,
) -> None:
    bench.postgres.failure = Unavailable("Postgres")
    began = monotonic()
    bench.hold(since=began)

    await eventually(lambda: bench.doubts)

    assert monotonic() - began > 0.6 * LEASE
    assert bench.doubts == [True]
    bench.postgres.failure = None
    await eventually(lambda: bench.doubts == [True, False])
    assert bench.lost == []


@pytest.mark.parametrize(("passed", "in_doubt"), [(0.58, False), (0.62, True)])
def test_a_lease_is_in_doubt_from_six_tenths_of_it_on(passed: float, in_doubt: bool) -> None:
    told: list[bool] = []
    lease = Lease(
        FENCE,
        DELIVERY,
        since=monotonic() - passed * 1000.0,
        lasts=1000.0,
        on_lost=lambda: None,
        on_doubt=told.append,
    )

    lease.check()

    assert (lease.in_doubt, told) == (in_doubt, [True] if in_doubt else [])


async def test_a_lease_counts_from_when_its_renewal_was_sent(bench: Bench) -> None:
    bench.postgres.seconds = 0.1
    since = monotonic()
    lease = bench.hold(since=since)

    await eventually(lambda: bench.postgres.asked)
    bench.postgres.hangs = True  # the next one
    await eventually(lambda: lease.renewed_at > since)

    assert lease.renewed_at <= bench.postgres.asked_at[0]


async def test_a_lease_counts_from_when_its_claim_was_sent(bench: Bench) -> None:
    lease = bench.hold(since=monotonic() - 0.5 * LEASE)
    bench.postgres.failure = Unavailable("Postgres")

    await eventually(lambda: lease.in_doubt, within=0.3 * LEASE)


async def test_entries_that_are_not_renewed_raise_no_doubt(bench: Bench) -> None:
    bench.redis.failure = Unavailable("Redis")
    bench.hold()

    await more(lambda: bench.postgres.answered, by=int(0.8 * LEASE / RENEW_EVERY))

    assert (bench.doubts, bench.lost) == ([], [])


async def test_nothing_is_renewed_while_the_event_loop_stands_still(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_LONGEST_STALL", 0.2)
    bench.hold()
    await more(lambda: bench.postgres.answered)
    stalled = renewals("postgres", "stalled")

    time.sleep(0.4)  # noqa: ASYNC251 - the loop stands still
    asked = bench.postgres.asked, bench.redis.asked
    time.sleep(0.3)  # noqa: ASYNC251

    assert (bench.postgres.asked, bench.redis.asked) == asked
    assert renewals("postgres", "stalled") > stalled
    await more(lambda: bench.postgres.answered)


async def test_the_age_of_the_oldest_lease_is_shown(bench: Bench) -> None:
    def age() -> float:
        return REGISTRY.get_sample_value("usa_lease_renewal_age_seconds") or 0.0

    bench.postgres.failure = Unavailable("Postgres")
    bench.hold(since=monotonic() - 100.0)
    bench.hold(Fence(UUID(int=8), 1))

    await eventually(lambda: age() > 100.0)
    bench.keeper.let_go(FENCE)
    await eventually(lambda: 0.0 < age() < 50.0)


async def test_stopping_ends_the_thread() -> None:
    async with at_work() as bench:
        bench.hold()
        await more(lambda: bench.postgres.answered)

    assert not bench.keeper._thread.is_alive()
