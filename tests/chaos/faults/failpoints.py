"""Faults at one step of a worker: between what it has done and what it would have done next."""

import asyncio
import signal
from functools import partial
from time import monotonic, time

from tests.chaos.faults.injury import TAKEOVER, Injury, Kind
from tests.chaos.recovery import running_on
from tests.chaos.world import GRACE, Member, signal_process
from tests.fixtures.failpoints import Failpoint

_PATIENCE = 8.0
# So long a job may take from its claim to its end; mostly one ends much sooner.
_LONGEST_JOB = 22.0
_START = 3.0
_LOST = (
    "postgres.claim_jobs.after",
    "postgres.close_calls.after",
    "postgres.record_if_current.after",
    "redis.append_events.after",
    "redis.ack_if_owner.after",
)


async def _victim(injury: Injury, *failpoints: Failpoint) -> Member:
    """Put a victim into a worker's place, as a deploy would."""
    victim = injury.dice.choice(injury.world.workers)
    signal_process(victim, signal.SIGTERM)
    await injury.world.replace(victim, failpoints)
    injury.note = victim.name
    return victim


async def kill_at(injury: Injury, *, point: str) -> None:
    """A worker dies when it first passes a point."""
    victim = await _victim(injury, Failpoint(point, "kill"))
    deadline = monotonic() + _LONGEST_JOB
    while victim.process.popen.poll() is None and monotonic() < deadline:  # noqa: ASYNC110 - a death
        await asyncio.sleep(0.02)
    died_at = time()
    if victim.process.popen.poll() is not None:
        injury.held, injury.since = await running_on(injury.world, victim), died_at
        injury.evidence = 1
    else:
        signal_process(victim, signal.SIGTERM)
    await injury.world.replace(victim)


async def lose_at_many(injury: Injury) -> None:
    """A worker does what it does, and hears nothing of it now and then."""
    victim = await _victim(injury, *(Failpoint(point, "lose", hit=2, times=2) for point in _LOST))
    deadline = monotonic() + _PATIENCE
    while victim.process.unmet and monotonic() < deadline:  # noqa: ASYNC110 - nothing signals it
        await asyncio.sleep(0.1)
    injury.evidence = len(_LOST) - len(victim.process.unmet)


def _killing(point: str) -> Kind:
    return Kind(partial(kill_at, point=point), GRACE + _START + _PATIENCE, TAKEOVER)


KINDS = {
    "worker-killed-after-reading": _killing("redis.xreadgroup.after"),
    "worker-killed-after-claim": _killing("postgres.claim_jobs.after"),
    "worker-killed-after-checkpoint": _killing("postgres.close_calls.after"),
    "worker-killed-after-events": _killing("redis.append_events.after"),
    "worker-killed-after-finish": _killing("postgres.record_if_current.after"),
    "worker-killed-before-acknowledging": _killing("redis.ack_if_owner.before"),
    "worker-hears-nothing": Kind(lose_at_many, GRACE + _START + _PATIENCE),
}
