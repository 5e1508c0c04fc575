"""The upstream's rate limits in Redis: one budget for all pods."""

import math

from service.domain.upstream import BURST, KINDS, Observed, Rates
from service.ports.upstream import Demand, Settlement, Turn
from service.streams import keys
from service.streams.connection import Client, redis_errors
from service.streams.scripts import leave_budget, observe_budget, reserve_budget, settle_budget


class RedisUpstreamBudget:
    """Keeps one bucket and one queue per model; by Redis' clock, so that all agree.

    `once` must not repeat commands: a reservation whose reply was lost counts as taken, which
    wastes a little of the limit and never exceeds it.
    """

    def __init__(self, once: Client, *, peer: str) -> None:
        self._once = once
        self._peer = peer

    async def reserve(self, demand: Demand) -> Turn:
        """Take the cost if it is this call's turn."""
        bucket = keys.budget(demand.model)
        limits = _texts(demand.configured)
        with redis_errors():
            granted, wait_ms, peers, *known = await reserve_budget(
                self._once,
                bucket=bucket,
                queue=f"{bucket}:queue",
                tickets=f"{bucket}:tickets",
                users=f"{bucket}:users",
                peers=f"{bucket}:peers",
                ticket=demand.ticket,
                user=demand.user,
                peer=self._peer,
                burst=BURST,
                requests=demand.cost.requests,
                input=demand.cost.input,
                output=demand.cost.output,
                max_requests=limits["requests"],
                max_input=limits["input"],
                max_output=limits["output"],
            )
        return Turn(
            granted=bool(granted),
            wait=wait_ms / 1000,
            limits=Rates(
                **{
                    kind: float(limit) if limit else None
                    for kind, limit in zip(KINDS, known, strict=True)
                }
            ),
            peers=peers,
        )

    async def observe(self, model: str, observed: Observed) -> None:
        """Adapt to what the upstream says of its limits."""
        limits, left = _texts(observed.limits), _texts(observed.remaining)
        with redis_errors():
            await observe_budget(
                self._once,
                bucket=keys.budget(model),
                max_requests=limits["requests"],
                max_input=limits["input"],
                max_output=limits["output"],
                left_requests=left["requests"],
                left_input=left["input"],
                left_output=left["output"],
            )

    async def settle(self, settlement: Settlement) -> None:
        """Correct a reservation by what the call took."""
        reserved, used = settlement.reserved, settlement.used
        with redis_errors():
            await settle_budget(
                self._once,
                bucket=keys.budget(settlement.model),
                back_requests=reserved.requests - used.requests,
                back_input=reserved.input - used.input,
                back_output=reserved.output - used.output,
                pause_ms=math.ceil(settlement.pause * 1000),
            )

    async def leave(self, model: str, ticket: str) -> None:
        """Give up a place in the queue."""
        bucket = keys.budget(model)
        with redis_errors():
            await leave_budget(
                self._once, queue=f"{bucket}:queue", tickets=f"{bucket}:tickets", ticket=ticket
            )


def _texts(rates: Rates) -> dict[str, str]:
    limits = {kind: getattr(rates, kind) for kind in KINDS}
    return {kind: "" if limit is None else f"{limit:.3f}" for kind, limit in limits.items()}
