"""The read loop: never more than the slots can take, nothing claimed on stale ground."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from service.domain.attempt import Claim, Delivery, Verdict
from service.domain.errors import Unavailable
from service.ports.attempts import AttemptStore, ClaimTerms
from service.ports.queue import JobStream
from service.telemetry.metrics import REGISTRY
from service.worker import consumer
from service.worker.consumer import Consumer
from service.worker.dependencies import WorkerTerms
from service.worker.processor import JobProcessor
from service.worker.slots import Slots
from service.worker.unclaimed import Unclaimed
from tests.fixtures.waiting import eventually

TERMS = WorkerTerms(
    concurrency=2, lease=60.0, max_crashes=3, reclaim_every=3600.0, shutdown_grace=1.0
)


def entry(number: int, job: int | None = None) -> Delivery:
    return Delivery("jobs", f"{number}-0", UUID(int=job or number))


@dataclass
class Stream:
    """Delivers what the test adds, holds it until it is released, and answers in turn."""

    new: list[list[Delivery]] = field(default_factory=list)
    pending: list[Delivery] = field(default_factory=list)
    released: list[list[Delivery]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    async def read_new(self, count: int) -> list[Delivery]:
        self.counts.append(count)
        if not self.new:
            await asyncio.sleep(0.005)
            return []
        found = self.new.pop(0)
        self.log.append("new")
        self.pending += found
        if self.failures:
            raise self.failures.pop()
        return found

    async def read_own_pending(self) -> list[Delivery]:
        self.log.append("reread")
        return list(self.pending)

    async def reclaim(self, count: int) -> list[Delivery]:
        return []

    async def release_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        self.released.append(list(deliveries))
        self.pending = [each for each in self.pending if each not in deliveries]
        return len(deliveries)


@dataclass
class Claims:
    """Lets every job be claimed that is not missing; remembers when and for what it was asked."""

    asked_at: list[float] = field(default_factory=list)
    batches: list[list[Delivery]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    seconds: float = 0.0
    missing: set[Delivery] = field(default_factory=set)
    log: list[str] = field(default_factory=list)

    async def claim(self, deliveries: Sequence[Delivery], terms: ClaimTerms) -> list[Claim]:
        self.asked_at.append(monotonic())
        self.batches.append(list(deliveries))
        self.log.append("claim")
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop()
        return [
            Claim(each, Verdict.MISSING if each in self.missing else Verdict.CLAIMED)
            for each in deliveries
        ]


@dataclass
class Bench:
    """A loop at work; jobs run until the test ends them."""

    stream: Stream
    claims: Claims
    slots: Slots
    consumer: Consumer
    settled: list[Delivery]
    held_since: list[float]

    @property
    def running(self) -> set[str]:
        return {processor.entry_id for processor in self.slots}

    def end(self, delivery: Delivery) -> None:
        self.stream.pending.remove(delivery)
        self.slots.vacate(delivery.job_id)
        self.consumer.job_ended(delivery.job_id)


@asynccontextmanager
async def at_work(*new: list[Delivery], **given: Any) -> AsyncIterator[Bench]:
    stream, slots = Stream(new=list(new)), Slots(TERMS.concurrency)
    claims = Claims(log=stream.log, **given)
    settled: list[Delivery] = []
    held_since: list[float] = []

    def start(claim: Claim, claimed_at: float) -> None:
        held_since.append(claimed_at)
        processor = SimpleNamespace(entry_id=claim.delivery.entry_id, is_suspect=False)
        slots.occupy(claim.delivery.job_id, cast("JobProcessor", processor))

    def settle(claim: Claim) -> None:
        stream.pending.remove(claim.delivery)
        settled.append(claim.delivery)

    loop = Consumer(
        cast("JobStream", stream),
        cast("AttemptStore", claims),
        slots,
        cast("Unclaimed", SimpleNamespace(settle=settle)),
        TERMS,
        worker_id="worker-1",
        start=start,
    )
    reading = asyncio.create_task(loop.run())
    yield Bench(stream, claims, slots, loop, settled, held_since)
    loop.stop()
    await reading


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "_LONGEST_PAUSE", 0.01)


async def test_only_as_much_is_read_as_there_are_free_slots() -> None:
    async with at_work([entry(1)], [entry(2)]) as bench:
        await eventually(lambda: len(bench.running) == 2)
        reads = len(bench.stream.counts)
        bench.end(entry(1))
        await eventually(lambda: len(bench.stream.counts) > reads)

    assert bench.stream.counts[:2] == [2, 1]
    assert set(bench.stream.counts[reads:]) == {1}


async def test_what_is_too_much_for_the_slots_is_released() -> None:
    async with at_work([entry(1), entry(2), entry(3)]) as bench:
        await eventually(lambda: bench.stream.released)

        assert bench.running == {"1-0", "2-0"}
        assert bench.stream.released == [[entry(3)]]


async def test_a_lease_counts_from_before_its_claim_was_sent() -> None:
    async with at_work([entry(1)], seconds=0.05) as bench:
        await eventually(lambda: bench.running == {"1-0"})

    assert bench.held_since[0] <= bench.claims.asked_at[0]


async def test_several_entries_of_a_job_never_take_more_than_one_slot() -> None:
    async with at_work([entry(1), entry(2), entry(3, job=1)]) as bench:
        await eventually(lambda: len(bench.running) == 2)

    assert bench.claims.batches == [[entry(1), entry(2)]]


async def test_what_waited_too_long_for_its_turn_is_read_again_before_it_is_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer, "_FRESH_FOR", 0.02)
    found = [entry(1), entry(2), entry(3)]
    async with at_work(found, seconds=0.05, missing={entry(1), entry(2)}) as bench:
        await eventually(lambda: bench.running == {"3-0"})

        # Somebody else may have got it meanwhile: this time it was still ours.
        assert bench.stream.log == ["reread", "new", "claim", "reread", "claim"]
        assert bench.settled == [entry(1), entry(2)]


async def test_after_a_failed_read_ones_own_pending_entries_are_read_again() -> None:
    async with at_work() as bench:
        bench.stream.failures = [Unavailable("Redis")]
        bench.stream.new = [[entry(1)]]

        await eventually(lambda: bench.running == {"1-0"})


async def test_the_loop_survives_errors_of_every_kind_and_counts_them() -> None:
    def failures() -> float:
        return REGISTRY.get_sample_value("usa_loop_failures_total", {"loop": "consumer"}) or 0.0

    before = failures()
    async with at_work([entry(1)]) as bench:
        bench.claims.failures = [RuntimeError("a bug"), Unavailable("Postgres")]

        await eventually(lambda: bench.running == {"1-0"})

    assert failures() == before + 2
    assert bench.stream.released[:-1] == []


async def test_entries_that_can_still_not_be_claimed_are_released_each_time() -> None:
    async with at_work([entry(1)]) as bench:
        bench.claims.failures = [Unavailable("Postgres") for _ in range(7)]

        await eventually(lambda: bench.stream.released)

        assert len(bench.claims.batches) == consumer._KEPT_FAILURES + 1
        assert bench.stream.released == [[entry(1)]]


async def test_stopping_releases_what_was_not_claimed_and_nothing_that_runs() -> None:
    async with at_work([entry(1)]) as bench:
        await eventually(lambda: bench.running == {"1-0"})
        bench.stream.pending += [entry(2, job=1), entry(3)]

    assert bench.stream.released == [[entry(2, job=1), entry(3)]]


async def test_stopping_waits_a_little_for_a_server_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = [Unavailable("Redis"), Unavailable("Redis")]
    async with at_work([entry(1)]) as bench:
        await eventually(lambda: bench.running == {"1-0"})
        bench.stream.pending.append(entry(2))
        read = bench.stream.read_own_pending

        async def fail_first() -> list[Delivery]:
            if failures:
                raise failures.pop()
            return await read()

        monkeypatch.setattr(bench.stream, "read_own_pending", fail_first)

    assert (failures, bench.stream.released) == ([], [[entry(2)]])
