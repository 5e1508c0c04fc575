"""What is left once the faults are over: the jobs as they must have ended, and nothing else."""

import asyncio
from collections.abc import Mapping
from uuid import UUID

from service.client.event_stream import StreamEvent
from tests.fixtures.invariants import faults_at_rest, faults_of_books, faults_of_stories
from tests.fixtures.processes import Cluster
from tests.fixtures.redis_clients import looking_into
from tests.fixtures.waiting import eventually

_READERS = 8
_PAUSE = 0.2
_SHOWN = 20


async def nothing_went_wrong(
    cluster: Cluster,
    expected: Mapping[UUID, str],
    *,
    within: float = 120.0,
    redis_url: str | None = None,
) -> None:
    """Wait until everything is settled, then hold every rule against every job.

    `expected` is how each job must have ended; there are no others. `redis_url` is the address
    for a user that may look at every key, where the service may not.
    """
    await _at_rest(cluster, within, redis_url or cluster.environment["USA_REDIS_URL"])
    faults = [
        *await _other_ends(cluster, expected),
        *await faults_of_books(cluster),
        *await faults_of_stories(cluster, await _told(cluster, expected)),
    ]
    assert not faults, "\n".join(faults[:_SHOWN])


async def _other_ends(cluster: Cluster, expected: Mapping[UUID, str]) -> list[str]:
    found = {row["id"]: row["status"] for row in await cluster.rows("SELECT id, status FROM jobs")}
    return [
        f"job {job_id} is {found.get(job_id)}, not {expected.get(job_id)}"
        for job_id in found.keys() | expected.keys()
        if found.get(job_id) != expected.get(job_id)
    ]


async def _at_rest(cluster: Cluster, within: float, redis_url: str) -> None:
    faults = ["never looked"]

    async def rests() -> bool:
        faults[:] = await faults_at_rest(cluster, client)
        await asyncio.sleep(_PAUSE if faults else 0.0)
        return not faults

    async with looking_into(redis_url) as client:
        try:
            await eventually(rests, within=within)
        except AssertionError:
            shown = "\n".join(faults[:_SHOWN])
            raise AssertionError(f"not at rest within {within:g} s:\n{shown}") from None


async def _told(cluster: Cluster, expected: Mapping[UUID, str]) -> Mapping[UUID, list[StreamEvent]]:
    readers = asyncio.Semaphore(_READERS)

    async def follow(job_id: UUID) -> list[StreamEvent]:
        async with readers:
            return [event async for event in client.follow(job_id)]

    async with cluster.client() as client:
        told = await asyncio.gather(*map(follow, expected))
    return dict(zip(expected, told, strict=True))
