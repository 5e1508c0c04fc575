"""One fault being injected: what it needs, and what it leaves behind for the report."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Final
from uuid import UUID

from tests.chaos.clients import Clients
from tests.chaos.watchers import Watcher
from tests.chaos.world import LEASE, World


@dataclass
class Injury:
    """One injected fault; `evidence` counts what shows that it had an effect.

    `held` are the jobs it hit, with their attempts, and `since` is when, by the wall clock.
    `seconds` are recoveries that were measured directly.
    """

    kind: str
    world: World
    clients: Clients
    watchers: list[Watcher]
    dice: random.Random
    evidence: int = 0
    note: str = ""
    since: float = field(default_factory=time)
    until: float = 0.0
    held: dict[UUID, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def hit(self, held: Mapping[UUID, int]) -> None:
        """Note, at the moment of the fault, whom it hits."""
        self.held, self.since = dict(held), time()
        self.evidence = len(held)

    async def probe(self, *, within: float) -> None:
        """Measure from now until a new job has been accepted, run and ended."""
        since = time()
        self.seconds.append(await self.clients.run_probe(within) - since)


Inject = Callable[[Injury], Awaitable[None]]

TAKEOVER: Final = LEASE + 4.0
HAND_BACK: Final = 1.0
REDIS_LOST: Final = 30.0
POSTGRES_BACK: Final = 10.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: how it is done, the seconds it needs, and how long recovery may take.

    With `from_hand_back` recovery counts from when a job was handed back, not from the fault.
    """

    inject: Inject
    room: float
    bound: float | None = None
    from_hand_back: bool = False


async def eventually_running(
    look: Callable[[], Awaitable[Mapping[UUID, int]]], *, within: float = 8.0
) -> Mapping[UUID, int]:
    """Return whom `look` finds, looking until it finds somebody or the time is up."""
    deadline = monotonic() + within
    while not (found := await look()) and monotonic() < deadline:  # noqa: ASYNC110 - nothing signals
        await asyncio.sleep(0.1)
    return found
