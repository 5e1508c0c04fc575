"""Faults of the service's own processes."""

import asyncio
import signal
from collections.abc import Mapping
from functools import partial
from time import monotonic
from uuid import UUID

from tests.chaos.faults.injury import HAND_BACK, TAKEOVER, Injury, Kind, eventually_running
from tests.chaos.recovery import running_on
from tests.chaos.world import GRACE, LEASE, Member, signal_process

_ANSWER = 0.5
_LOOK = 0.05


async def _busiest(injury: Injury) -> tuple[Member, Mapping[UUID, int]]:
    """Return the worker that runs most jobs, waiting a little until one runs some."""
    world = injury.world
    holder = world.workers[0]

    async def look() -> Mapping[UUID, int]:
        nonlocal holder
        held = [(await running_on(world, worker), worker) for worker in world.workers]
        most, holder = max(held, key=lambda each: len(each[0]))
        return most

    held = await eventually_running(look)
    return holder, held


async def kill_worker(injury: Injury) -> None:
    """End the hard way: kill -9 of the busiest worker; its place is filled again at once."""
    victim, held = await _busiest(injury)
    signal_process(victim, signal.SIGKILL)
    injury.hit(held)
    await injury.world.replace(victim)
    injury.note = victim.name


async def freeze_worker(injury: Injury, *, leases: float) -> None:
    """SIGSTOP for so many leases, then SIGCONT."""
    victim, held = await _busiest(injury)
    signal_process(victim, signal.SIGSTOP)
    injury.hit(held)
    await asyncio.sleep(leases * LEASE)
    signal_process(victim, signal.SIGCONT)
    injury.note = victim.name


async def terminate_worker(injury: Injury) -> None:
    """SIGTERM: it hands back what does not end within its grace."""
    victim, held = await _busiest(injury)
    signal_process(victim, signal.SIGTERM)
    injury.hit(held)
    await injury.world.replace(victim)
    injury.note = victim.name


async def terminate_then_kill_worker(injury: Injury) -> None:
    """SIGTERM, and kill -9 before the grace is over."""
    victim, held = await _busiest(injury)
    signal_process(victim, signal.SIGTERM)
    deadline = monotonic() + GRACE / 2
    # Not later than with one job left, or there would be nobody to hurt.
    while len(held) > 1 and monotonic() < deadline:
        await asyncio.sleep(_LOOK)
        held = await running_on(injury.world, victim)
    signal_process(victim, signal.SIGKILL)
    injury.hit(held)
    await injury.world.replace(victim)
    injury.note = victim.name


async def roll_workers(injury: Injury) -> None:
    """A rolling deploy: every worker is told to leave, one after the other."""
    world = injury.world
    injury.hit(
        {k: v for worker in world.workers for k, v in (await running_on(world, worker)).items()}
    )
    for worker in world.workers:
        signal_process(worker, signal.SIGTERM)
        await asyncio.sleep(_ANSWER)
        await world.replace(worker)
        await worker.process.ready()


async def kill_two_workers(injury: Injury) -> None:
    """End the hard way: kill -9 of two workers at once."""
    world = injury.world
    victims = injury.dice.sample(world.workers, 2)
    held: dict[UUID, int] = {}
    for victim in victims:
        held |= await running_on(world, victim)
    for victim in victims:
        signal_process(victim, signal.SIGKILL)
    injury.hit(held)
    injury.evidence = 2
    for victim in victims:
        await world.replace(victim)


async def kill_api(injury: Injury) -> None:
    """End the hard way: kill -9 of an API replica, with whoever is connected to it."""
    victim = injury.dice.choice(injury.world.apis)
    injury.evidence = sum(watcher.is_live for watcher in injury.watchers)
    signal_process(victim, signal.SIGKILL)
    await injury.world.replace(victim)
    injury.note = victim.name


async def terminate_api(injury: Injury) -> None:
    """SIGTERM of an API replica: it ends its streams and its requests first."""
    victim = injury.dice.choice(injury.world.apis)
    injury.evidence = sum(watcher.is_live for watcher in injury.watchers)
    signal_process(victim, signal.SIGTERM)
    await injury.world.replace(victim)
    injury.note = victim.name


async def freeze_api(injury: Injury) -> None:
    """SIGSTOP of an API replica for some seconds."""
    victim = injury.dice.choice(injury.world.apis)
    injury.evidence = sum(watcher.is_live for watcher in injury.watchers)
    signal_process(victim, signal.SIGSTOP)
    await asyncio.sleep(3.0)
    signal_process(victim, signal.SIGCONT)


KINDS = {
    "worker-killed": Kind(kill_worker, TAKEOVER + 1, TAKEOVER),
    "worker-frozen-briefly": Kind(partial(freeze_worker, leases=0.5), 0.5 * LEASE + 2),
    "worker-frozen-beyond-lease": Kind(
        partial(freeze_worker, leases=1.9), 1.9 * LEASE + 3, TAKEOVER
    ),
    "worker-handed-back": Kind(terminate_worker, GRACE + 4, HAND_BACK, from_hand_back=True),
    "worker-killed-in-grace": Kind(terminate_then_kill_worker, TAKEOVER + 2, TAKEOVER),
    "workers-rolled": Kind(roll_workers, 24.0, HAND_BACK, from_hand_back=True),
    "two-workers-killed": Kind(kill_two_workers, TAKEOVER + 1, TAKEOVER),
    "api-killed": Kind(kill_api, 4.0),
    "api-terminated": Kind(terminate_api, 5.0),
    "api-frozen": Kind(freeze_api, 5.0),
}
