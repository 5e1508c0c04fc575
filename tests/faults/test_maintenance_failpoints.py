"""Whoever repairs may die in the middle of it, or freeze: the next one repairs all the same."""

import signal
from collections.abc import Sequence
from itertools import pairwise
from uuid import UUID

import pytest
import redis

from tests.faults import matrix
from tests.faults.aftermath import nothing_went_wrong
from tests.faults.jobs import all_met, submit
from tests.fixtures.failpoints import Failpoint
from tests.fixtures.processes import Cluster
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(400)

ALONE = {"USA_POLL_INTERVAL": "3600", "USA_RECONCILE_INTERVAL": "3600"}
RESTLESS = {"USA_POLL_INTERVAL": "0.1", "USA_RECONCILE_INTERVAL": "0.1"}
FOR_EVER = 1_000_000
AT_WORK, QUEUED = 4, 4


@pytest.fixture
async def wreckage(cluster: Cluster, redis_server_url: str) -> dict[UUID, str]:
    """Jobs with everything that maintenance repairs, and how each must end."""
    cluster.environment |= {"USA_USER_IN_STREAM": "0", "USA_MAX_CRASHES": "100"}
    await cluster.start_api(**ALONE)
    (worker,) = await cluster.start_workers(1, USA_CONCURRENCY=str(AT_WORK), **ALONE)
    running = await submit(cluster, AT_WORK, steps=2, stepSeconds=1)
    await eventually(lambda: all_in_second_call(cluster), within=60, what="they are at work")
    worker.kill()
    waiting = await submit(cluster, QUEUED, steps=1)
    await eventually(lambda: all_marked(cluster, QUEUED), what="their entries are marked")
    cancelled, overdue = running[0], waiting[0]
    async with cluster.client() as client:
        await client.cancel(cancelled)
    await eventually(lambda: owes_nothing(cluster), what="the cancellation is told")

    with redis.Redis.from_url(redis_server_url) as client:
        client.flushall()
    for sql in (
        "UPDATE jobs SET event_pending = true WHERE status = 'cancelled'",
        "UPDATE jobs SET completed_at = completed_at - interval '1 minute'",
        "UPDATE jobs SET lease_until = lease_until - interval '1 minute'",
        f"UPDATE jobs SET deadline_at = clock_timestamp() WHERE id = '{overdue}'",  # noqa: S608 - a UUID
    ):
        await cluster.rows(sql)
    expected = dict.fromkeys([*running, *waiting], "completed")
    return expected | {cancelled: "cancelled", overdue: "failed"}


async def all_in_second_call(cluster: Cluster) -> bool:
    under_way = await cluster.count(
        "SELECT count(*) FROM usage_records JOIN checkpoints USING (job_id) WHERE ending IS NULL"
    )
    return under_way == AT_WORK


async def all_marked(cluster: Cluster, count: int) -> bool:
    return count == await cluster.count(
        "SELECT count(*) FROM jobs WHERE status = 'queued' AND entry_id IS NOT NULL"
    )


async def owes_nothing(cluster: Cluster) -> bool:
    return not await cluster.count("SELECT count(*) FROM jobs WHERE event_pending")


async def relay_again(cluster: Cluster, *, marked: bool = False) -> None:
    """Make every job due that somebody was about to relay; or all, as if no mark had been made."""
    await cluster.rows(
        "WITH due AS (SELECT id FROM jobs"
        "  WHERE status = 'queued' AND (entry_id IS NULL OR $1) ORDER BY id FOR UPDATE)"
        " UPDATE jobs j SET relay_after = clock_timestamp(), entry_id = NULL"
        " FROM due WHERE j.id = due.id",
        marked,
    )


async def test_repairs_that_are_broken_off_are_made_by_the_next(
    cluster: Cluster, wreckage: dict[UUID, str]
) -> None:
    for failpoint in matrix.REPAIRING:
        victim = cluster.start_victim("api", failpoint)
        await all_met([victim])
        assert await victim.ended() == -signal.SIGKILL
        await relay_again(cluster)
    frozen = []
    for failpoint in matrix.RELAYING:
        await relay_again(cluster, marked=True)
        frozen.append(cluster.start_victim("api", failpoint))
        await all_met(frozen)
        await eventually(lambda: frozen[-1].is_frozen, what="it is frozen")
    await relay_again(cluster, marked=True)

    await cluster.start_api()
    await cluster.start_workers(1)
    await cluster.all_ended(len(wreckage), within=90)
    for victim in frozen:
        victim.send(signal.SIGCONT)

    await nothing_went_wrong(cluster, wreckage)


async def test_repairs_that_fail_or_are_not_heard_of_are_made_again(
    cluster: Cluster, wreckage: dict[UUID, str]
) -> None:
    edges = list(dict.fromkeys(each.edge for each in matrix.REPAIRING))
    # A few failures each, because a loop that fails again and again waits longer and longer.
    for begin, end in pairwise((0, 4, 6, 8, len(edges))):
        await fails_at(cluster, edges[begin:end], edges[end : end + 1])

    await cluster.start_api()
    await cluster.start_workers(1)

    await nothing_went_wrong(cluster, wreckage)


async def fails_at(cluster: Cluster, edges: Sequence[str], rest: Sequence[str]) -> None:
    """Let one process fail twice at each of these edges, and leave the rest to the next one."""
    victim = cluster.start_victim(
        "api",
        *(Failpoint(f"{edge}.before", "raise") for edge in edges),
        *(Failpoint(f"{edge}.after", "lose") for edge in edges),
        # Rounds end there.
        *(Failpoint(f"{edge}.before", "raise", times=FOR_EVER) for edge in rest),
        **RESTLESS,
    )

    async def failed() -> bool:
        if not rest:
            await relay_again(cluster, marked=True)
        return all(each.times == FOR_EVER for each in victim.unmet)

    await eventually(failed, within=90, what="it has failed everywhere")
    victim.kill()
