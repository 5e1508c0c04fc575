"""One job in memory, claimed, and everything that its attempt needs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any
from uuid import UUID

from fakeredis import FakeAsyncRedis

from service.domain.attempt import Claim, Delivery, Fence, Verdict
from service.domain.events import BEGINNING, EventId
from service.domain.job import Job, JobStatus, JsonObject
from service.domain.transitions import Complete, Fail, HandBack, Postpone, Retry, Transition
from service.ports.agent import Attempt
from service.ports.attempts import ClaimTerms, LeaseStore, Recorded
from service.ports.queue import EntryLeases
from service.supervision import Background
from service.worker.acknowledger import Acknowledger
from service.worker.dependencies import AttemptDependencies
from service.worker.leases import LeaseKeeper
from service.worker.processor import JobProcessor
from service.worker.upstream import UpstreamGate, UpstreamTerms
from tests.fixtures.agents import Acting
from tests.fixtures.event_logs import FailingEventLog, a_log, fake_client
from tests.fixtures.upstream import MemoryBudget
from tests.unit.domain.jobs import JOB, NOON, a_job
from tests.unit.worker.ledger import MemoryLedger

DELIVERY = Delivery("jobs", "5-0", JOB.id)
_STATUSES: Mapping[type, JobStatus] = {
    Complete: JobStatus.COMPLETED,
    Fail: JobStatus.FAILED,
    Retry: JobStatus.QUEUED,
    HandBack: JobStatus.QUEUED,
    Postpone: JobStatus.QUEUED,
}


@dataclass
class MemoryAttempts:
    """The row of one job, written only by its current attempt."""

    job: Job
    status: JobStatus = JobStatus.PROCESSING
    entry_id: str | None = DELIVERY.entry_id
    recorded: list[Transition] = field(default_factory=list)
    refuses: Exception | None = None

    async def claim(self, deliveries: Sequence[Delivery], terms: ClaimTerms) -> list[Claim]:
        raise NotImplementedError

    async def record_if_current(
        self, fence: Fence, transition: Transition, final_event_id: EventId | None
    ) -> Recorded:
        if self.refuses is not None:
            refusal, self.refuses = self.refuses, None
            raise refusal
        is_current = (fence.attempt, self.status) == (self.job.attempt, JobStatus.PROCESSING)
        if is_current:
            self.status = _STATUSES[type(transition)]
            self.recorded.append(transition)
            if final_event_id is None:
                self.entry_id = None
        return Recorded(applied=is_current, status=self.status, attempt=self.job.attempt)

    async def mark_entry(self, fence: Fence, entry_id: str) -> None:
        self.entry_id = self.entry_id or entry_id

    async def clear_event_pending(self, job_id: UUID, final_event_id: EventId) -> None:
        """Nobody asks."""

    async def get(self, job_id: UUID) -> Job | None:
        raise NotImplementedError

    async def read_fences(self, job_ids: Sequence[UUID]) -> dict[UUID, Recorded]:
        row = Recorded(
            applied=False, status=self.status, attempt=self.job.attempt, entry_id=self.entry_id
        )
        return {self.job.id: row}


@dataclass
class Doorbell:
    """Acknowledges and adds entries."""

    acknowledged: list[Delivery] = field(default_factory=list)
    added: list[tuple[UUID, int]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    async def acknowledge_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        self.acknowledged += deliveries
        self.log.append("acknowledge")
        return len(deliveries)

    async def add_entry(self, job_id: UUID, attempt: int, trace_parent: str | None) -> Delivery:
        self.added.append((job_id, attempt))
        self.log.append("add")
        return Delivery("again", "6-0", job_id, trace_parent)


@dataclass
class Bench:
    """An attempt to run, and everything that it touches."""

    attempts: MemoryAttempts
    ledger: MemoryLedger
    log: FailingEventLog
    doorbell: Doorbell
    leases: LeaseKeeper
    processor: JobProcessor

    async def events(self) -> list[str]:
        frames = await self.log.real.read_after(self.attempts.job.id, BEGINNING, 1000)
        return [frame.type for frame in frames]


class _Never:
    at_next_call = False


@asynccontextmanager
async def a_bench(
    act: Callable[[Attempt], Any],
    *,
    judged_at: datetime = NOON,
    is_damaged: bool = False,
    client: FakeAsyncRedis | None = None,
    **changes: Any,
) -> AsyncIterator[Bench]:
    """A claimed job, as changed, for an agent that does what the test wants."""
    background, doorbell = Background(), Doorbell()
    job = a_job(**changes)
    attempts = MemoryAttempts(job)
    ledger = MemoryLedger(current={Fence(job.id, job.attempt)})
    log = a_log(client or fake_client(), background)
    leases = LeaseKeeper(_no_stores, worker_id="worker-1", lease=60.0, renew_every=60.0)
    processor = JobProcessor(
        Claim(DELIVERY, Verdict.CLAIMED, job, judged_at=judged_at, is_damaged=is_damaged),
        AttemptDependencies(
            worker_id="worker-1",
            agents={JOB.agent: Acting(act, JOB.agent)},
            attempts=attempts,
            ledger=ledger,
            events=log,
            entries=doorbell,
            acknowledger=Acknowledger(doorbell, background),  # type: ignore[arg-type] # no reads
            leases=leases,
            background=background,
            upstream=UpstreamGate(MemoryBudget(), background, UpstreamTerms()),
            event_retention=60.0,
        ),
        claimed_at=monotonic(),
        drain=_Never(),
        listener=lambda _: None,
    )
    yield Bench(attempts, ledger, log, doorbell, leases, processor)
    await background.cancel()


def _no_stores() -> AbstractAsyncContextManager[tuple[LeaseStore, EntryLeases]]:
    raise NotImplementedError


async def for_ever(_: Attempt) -> JsonObject:
    """Work that never ends by itself."""
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets")
