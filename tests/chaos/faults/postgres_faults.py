"""Faults of Postgres."""

import asyncio
import os
import signal
from functools import partial

from tests.chaos.faults.injury import POSTGRES_BACK, Injury, Kind

_DOWN = 5.0


async def stop_immediately(injury: Injury, *, down: float) -> None:
    """An immediate stop, as pg_ctl -m immediate does it, and a start with crash recovery."""
    postgres = injury.world.postgres
    os.kill(postgres.pid, signal.SIGQUIT)
    while postgres.is_running:  # noqa: ASYNC110 - the end of a process is polled for
        await asyncio.sleep(0.02)
    await asyncio.sleep(down)
    postgres.stop()
    postgres.start()
    injury.evidence = 1
    await injury.probe(within=POSTGRES_BACK * 2)


async def terminate_backends(injury: Injury) -> None:
    """pg_terminate_backend of everybody, in the middle of whatever they do."""
    injury.evidence = await injury.world.number(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    await injury.probe(within=POSTGRES_BACK * 2)


async def lock_jobs(injury: Injury) -> None:
    """Somebody's migration holds the table of jobs for some seconds."""
    await injury.world.rows(
        "DO $$ BEGIN LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE; PERFORM pg_sleep(3); END $$"
    )
    injury.evidence = 1


KINDS = {
    "postgres-stopped": Kind(partial(stop_immediately, down=0.0), 9.0, POSTGRES_BACK),
    "postgres-down": Kind(partial(stop_immediately, down=_DOWN), _DOWN + 9.0, POSTGRES_BACK),
    "backends-terminated": Kind(terminate_backends, 5.0, POSTGRES_BACK),
    "jobs-locked": Kind(lock_jobs, 6.0),
}
