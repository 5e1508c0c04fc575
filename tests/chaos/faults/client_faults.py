"""What clients do to a service."""

import asyncio

from tests.chaos.faults.injury import Injury, Kind
from tests.chaos.plan import Fate

_STORM = 12


async def cancel_storm(injury: Injury) -> None:
    """Many running jobs are cancelled in the same moment."""
    world, clients = injury.world, injury.clients
    rows = await world.rows("SELECT id FROM jobs WHERE status = 'processing'")
    running = {row["id"] for row in rows}
    jobs = [
        job
        for job in world.plan.jobs
        if world.job_ids.get(job.nonce) in running
        and job.nonce not in clients.cancellations
        and job.fate is Fate.COMPLETES
    ][:_STORM]
    await asyncio.gather(*(clients.cancel(job) for job in jobs))
    injury.evidence = len(jobs)


async def drop_watchers(injury: Injury) -> None:
    """Every watcher loses its connection and comes back at once."""
    await _drop(injury, move=False)


async def move_watchers(injury: Injury) -> None:
    """Every watcher loses its connection and comes back at the other replica."""
    await _drop(injury, move=True)


async def _drop(injury: Injury, *, move: bool) -> None:
    for watcher in injury.watchers:
        if watcher.is_live:
            injury.evidence += 1
            watcher.drop(move=move)


async def stall_watchers(injury: Injury) -> None:
    """Every watcher stops reading for some seconds."""
    for watcher in injury.watchers:
        if watcher.is_live:
            injury.evidence += 1
            watcher.stall()


KINDS = {
    "cancel-storm": Kind(cancel_storm, 3.0),
    "watchers-dropped": Kind(drop_watchers, 2.0),
    "watchers-moved": Kind(move_watchers, 2.0),
    "watchers-stalled": Kind(stall_watchers, 6.0),
}
