"""A server of Redis dies for good and another takes its place: jobs are delayed, never lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from uuid import UUID

import pytest

from service.client.event_stream import StreamEvent
from service.streams import keys
from tests.faults.aftermath import nothing_went_wrong
from tests.faults.jobs import submit
from tests.fixtures.figures import show
from tests.fixtures.invariants import faults_of_stories
from tests.fixtures.processes import Cluster
from tests.fixtures.redis_servers import (
    RedisServers,
    as_cluster,
    cluster_is_made,
    sentinels_agree,
    watched_by_sentinels,
)
from tests.fixtures.scale import scaled
from tests.fixtures.waiting import eventually

BEFORE, MEANWHILE = scaled((20, 10), (400, 100))
WATCHED = 6
STEPS = 4
STEP_SECONDS = 0.6
WORKERS = 2
CONCURRENCY = scaled(8, 40)


@pytest.fixture(params=["sentinel", "cluster"])
async def servers(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RedisServers]:
    """Real servers, each set up by the files of deploy/redis."""
    if request.param == "sentinel":
        with watched_by_sentinels(tmp_path / "redis") as servers:
            await sentinels_agree(servers)
            yield servers
    else:
        with as_cluster(tmp_path / "redis") as servers:
            await cluster_is_made(servers)
            yield servers


@pytest.fixture
def redis_url(servers: RedisServers) -> str:
    """Their address, as the user that deploy/redis/users.acl makes for the service."""
    return servers.url


@pytest.mark.timeout(scaled(180, 900))
async def test_all_jobs_complete_through_the_death_of_a_primary(
    cluster: Cluster, servers: RedisServers
) -> None:
    await cluster.start_api()
    await cluster.start_workers(WORKERS, USA_CONCURRENCY=str(CONCURRENCY), USA_USER_IN_STREAM="0")
    jobs = await submit(cluster, BEFORE, steps=STEPS, stepSeconds=STEP_SECONDS)
    seen = jobs[-WATCHED:]
    watches = [asyncio.create_task(watched(cluster, job)) for job in seen]

    async def is_under_way() -> bool:
        statuses = await cluster.statuses()
        return statuses.get("completed", 0) > 0 and statuses.get("queued", 0) > 0

    await eventually(is_under_way, within=60.0, what="some are done, some run, some wait")
    servers.primary_of(keys.JOBS).kill()
    since = monotonic()
    jobs += await submit(cluster, MEANWHILE, steps=STEPS, stepSeconds=STEP_SECONDS)
    await eventually(lambda: successor(servers), within=30.0, what="another takes its place")
    show(f"another server had taken its place after {monotonic() - since:.1f} s")

    expected = {"completed": len(jobs)}
    assert await cluster.all_ended(len(jobs), within=scaled(60.0, 600.0)) == expected
    show(f"all {len(jobs)} jobs were completed {monotonic() - since:.1f} s after its death")
    await nothing_went_wrong(
        cluster, dict.fromkeys(jobs, "completed"), redis_url=servers.operator_url
    )
    told = dict(zip(seen, await asyncio.gather(*watches), strict=True))
    assert await faults_of_stories(cluster, told) == []
    assert await cluster.count("SELECT count(*) FROM jobs WHERE error_count > 0") == 0
    assert servers.refused() == []


async def watched(cluster: Cluster, job: UUID) -> list[StreamEvent]:
    """Everything that a client is told that began to watch before the fault."""
    async with cluster.client() as client:
        return [event async for event in client.follow(job)]


def successor(servers: RedisServers) -> bool:
    try:
        return bool(servers.primary_of(keys.JOBS))
    except ValueError:
        return False
