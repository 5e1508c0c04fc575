"""The upstream's rate limits, shared by every worker of every pod."""

from dataclasses import dataclass
from typing import Protocol

from service.domain.upstream import Cost, Observed, Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A call that wants to be made; `ticket` is its place in the queue, and nobody else's."""

    model: str
    user: str
    ticket: str
    cost: Cost
    configured: Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whether the call may be made, and else in how many seconds it will probably be its turn.

    `limits` is what holds now, `peers` how many workers ask of late.
    """

    granted: bool
    wait: float
    limits: Rates
    peers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a call ended: what was reserved, what it took, and for how long all should pause."""

    model: str
    reserved: Cost
    used: Cost
    pause: float = 0.0


class UpstreamBudget(Protocol):
    """One token bucket per model and kind of limit, fair between users; raises `Unavailable`."""

    async def reserve(self, demand: Demand) -> Turn:
        """Take the cost if it is this call's turn.

        Else ask again, at the latest after a second: who does not ask for ten loses its place.
        """
        ...

    async def observe(self, model: str, observed: Observed) -> None:
        """Adapt to what the upstream says of its limits."""
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Correct a reservation by what the call took."""
        ...

    async def leave(self, model: str, ticket: str) -> None:
        """Give up a place in the queue."""
        ...
