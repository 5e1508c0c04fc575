"""A worker whose every step is taken by hand; it ends attempts and settles verdicts for real."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.domain.attempt import Checkpoint, Claim, Delivery, Fence, Verdict
from service.domain.errors import Unavailable
from service.domain.events import EventType, JobEvent
from service.domain.outcome import Outcome
from service.domain.retry import RetryPolicy
from service.domain.usage import Usage
from service.ports.attempts import CallOpening, ClaimTerms, LeaseStore
from service.ports.queue import EntryLeases
from service.streams.job_stream import RedisEntryLeases, RedisJobStream
from service.worker.acknowledger import Acknowledger
from service.worker.claim_clock import ClaimClock
from service.worker.dependencies import AttemptDependencies
from service.worker.endings import AttemptEnding
from service.worker.event_writer import EventWriter
from service.worker.leases import LeaseKeeper
from service.worker.unclaimed import Unclaimed
from service.worker.upstream import UpstreamGate, UpstreamTerms
from tests.fixtures.factories import a_checkpoint, a_closing, an_opening
from tests.fixtures.upstream import MemoryBudget
from tests.stateful.faults import watched

if TYPE_CHECKING:
    from tests.stateful.world import World

LEASE: Final = 15
MAX_CRASHES: Final = 3
RETENTION: Final = 3600.0

# Without a delay of its own, so that a retry waits for whole seconds or not at all.
_POLICY: Final = RetryPolicy(max_errors=3, base=0.0)
_RENEW_EVERY: Final = 4.0


def _none() -> AbstractAsyncContextManager[tuple[LeaseStore, EntryLeases]]:
    raise AssertionError("leases are renewed by hand")


@dataclass
class Run:
    """An attempt in progress; whether it is still current is for the stores to say."""

    claim: Claim
    clock: ClaimClock
    writer: EventWriter
    checkpoints: dict[str, Checkpoint]
    calls: int = 0
    opened: CallOpening | None = None
    told: list[JobEvent] = field(default_factory=list)

    @property
    def fence(self) -> Fence:
        """Which attempt it is."""
        return self.claim.fence

    @property
    def next_step(self) -> str:
        """The first step that this attempt does not know as paid."""
        return next(step for n in count(1) if (step := f"step-{n}") not in self.checkpoints)


class Worker:
    """One process: a consumer of the group, what was delivered to it, and what it runs."""

    def __init__(self, world: "World", name: str) -> None:
        self.name = name
        self.inbox: list[Delivery] = []
        self.running: dict[UUID, Run] = {}
        self._must_reread = False
        self._world = world
        self._attempts = world.attempts
        self._ledger = world.ledger
        self._background = world.stores.background
        real = RedisJobStream(
            world.once, world.commands, consumer=name, block=0.001, min_idle=LEASE + 1
        )
        self.stream: RedisJobStream = watched(real, world.spell, world.model, sender=name)
        self._entry_leases = RedisEntryLeases(world.once, consumer=name)
        acknowledger = Acknowledger(self.stream, self._background)
        self._unclaimed = Unclaimed(
            self.stream,
            self._attempts,
            world.events,
            acknowledger,
            self._background,
            event_retention=RETENTION,
        )
        self._to = AttemptDependencies(
            worker_id=name,
            agents={},
            attempts=self._attempts,
            ledger=self._ledger,
            events=world.events,
            entries=world.entries,
            acknowledger=acknowledger,
            leases=LeaseKeeper(_none, worker_id=name, lease=LEASE, renew_every=_RENEW_EVERY),
            background=self._background,
            upstream=UpstreamGate(MemoryBudget(), self._background, UpstreamTerms()),
            event_retention=RETENTION,
            policy=_POLICY,
        )

    async def read(self, how: str, count: int = 2) -> None:
        """Be given entries: `new` ones, one's `own` again, or those of the silent."""
        match how:
            case "new" if not self._must_reread:
                self.inbox += await self.stream.read_new(count)
            case "new" | "own":
                self._must_reread = False
                self.inbox = await self.stream.read_own_pending()
            case _:
                self.inbox += await self.stream.reclaim(count)

    async def claim(self) -> list[Run]:
        """Claim what was delivered and does not run here, and start or settle it."""
        waiting = [each for each in self.inbox if each.job_id not in self.running]
        self.inbox = []
        if not waiting:
            return []
        suspects = sum(bool(run.claim.job and run.claim.job.crash_count) for run in self._runs())
        terms = ClaimTerms(
            worker_id=self.name,
            lease=LEASE,
            max_crashes=MAX_CRASHES,
            suspects_allowed=max(0, 1 - suspects),
        )
        started = []
        self._must_reread = True  # unless the answer is heard
        claims = await self._attempts.claim(waiting, terms)
        self._must_reread = False
        for claim in claims:
            if claim.verdict is Verdict.CLAIMED:
                started.append(self._start(claim))
            else:
                self._unclaimed.settle(claim)
                await self._world.quiet()
        return started

    def _runs(self) -> list[Run]:
        return list(self.running.values())

    def _start(self, claim: Claim) -> Run:
        told: list[JobEvent] = []
        writer = EventWriter(
            claim.fence.job_id,
            claim.fence.attempt,
            self._world.events,
            self._background,
            ttl=RETENTION,
            retention=RETENTION,
            listener=told.append,
        )
        run = Run(claim, ClaimClock(claim), writer, dict(claim.checkpoints), told=told)
        self.running[claim.fence.job_id] = run
        return run

    async def open_call(self, run: Run) -> None:
        """Write a call down that is about to be made."""
        run.calls += 1
        opening = an_opening(run.claim, run.calls, step=run.next_step, expected=10)
        is_current = await _surely(lambda: self._ledger.open_call(opening))
        run.opened = opening if is_current else None

    async def close_call(self, run: Run, opening: CallOpening, ending: str) -> None:
        """Write down how a call ended; a finished one with its output."""
        run.opened = None
        usage = Usage(10 + run.calls, 7, run.calls, 1, estimated=ending != "finished")
        text = f"attempt {run.fence.attempt}, call {opening.call}"
        checkpoint = a_checkpoint(opening.step, text=text, usage=usage)
        finished = checkpoint if ending == "finished" else None
        closing = a_closing(
            run.fence, opening.call, usage=usage, ending=ending, checkpoint=finished
        )
        is_current = await _surely(lambda: self._ledger.close_call(closing))
        if is_current and finished is not None:
            run.checkpoints[opening.step] = checkpoint

    async def emit(self, run: Run, event_type: EventType) -> None:
        """Tell whoever watches."""
        run.writer.emit(event_type, {"iteration": run.next_step})
        await self._world.quiet()

    async def end(self, run: Run, outcome: Outcome) -> None:
        """Record how an attempt ended, as a worker does it."""
        if run.opened is not None:
            await self.close_call(run, run.opened, "aborted")
        await AttemptEnding(run.claim, run.clock, run.writer, self._to).record(outcome)
        self.running.pop(run.fence.job_id, None)

    async def renew(self) -> None:
        """Extend the leases of everything that runs here, in both servers."""
        runs = self._runs()
        if runs:
            fences = sorted(run.fence for run in runs)
            await self._world.leases.renew(self.name, fences, LEASE)
            await self._entry_leases.renew_if_owner([run.claim.delivery for run in runs])

    async def give_back(self) -> None:
        """Release what was delivered and not claimed, and read nothing more."""
        held = [each for each in self.inbox if each.job_id not in self.running]
        self.inbox = []
        await self.stream.release_if_owner(held)
        await self.stream.leave()


async def _surely(write: Callable[[], Awaitable[bool]]) -> bool:
    """Write again if the answer was not heard."""
    try:
        return await write()
    except Unavailable:
        return await write()
