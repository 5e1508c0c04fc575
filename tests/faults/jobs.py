"""Submitting jobs for victims to run."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import redis.asyncio

from service.streams import keys
from tests.fixtures.processes import Cluster, ServiceProcess
from tests.fixtures.waiting import eventually

_PAUSE = 0.05

STORY = "As a user, I want to log in"


async def submit(cluster: Cluster, count: int, **options: Any) -> list[UUID]:
    """Submit jobs of the sleep agent, all at once."""
    return await _submit_all(cluster, [{"agent": "sleep", "options": options}] * count)


async def submit_stories(cluster: Cluster, count: int) -> list[UUID]:
    """Submit real stories, all at once."""
    return await _submit_all(cluster, [{"iterations": ["user-roles", "validation"]}] * count)


async def _submit_all(cluster: Cluster, jobs: Sequence[dict[str, Any]]) -> list[UUID]:
    async with cluster.client() as client:
        answers = await asyncio.gather(*(client.submit(STORY, **job) for job in jobs))
    return [UUID(answer["job"]["id"]) for answer in answers]


async def feed(
    cluster: Cluster,
    victims: Sequence[ServiceProcess],
    submit_some: Callable[[], Awaitable[list[UUID]]],
    *,
    within: float = 90.0,
) -> list[UUID]:
    """Submit some jobs whenever all are delivered, until every victim has met its failpoints."""
    jobs: list[UUID] = []

    async def fed() -> bool:
        if await _undelivered(client) == 0:
            jobs.extend(await submit_some())
        return not unmet(victims)

    async with redis.asyncio.Redis.from_url(cluster.environment["USA_REDIS_URL"]) as client:
        await _until_met(victims, fed, within)
    return jobs


async def all_met(victims: Sequence[ServiceProcess], *, within: float = 90.0) -> None:
    """Return once every victim has met its failpoints."""

    async def met() -> bool:
        return not unmet(victims)

    await _until_met(victims, met, within)


async def _until_met(
    victims: Sequence[ServiceProcess], look: Callable[[], Awaitable[bool]], within: float
) -> None:
    async def looked() -> bool:
        has_met = await look()
        await asyncio.sleep(0 if has_met else _PAUSE)
        return has_met

    try:
        await eventually(looked, within=within)
    except AssertionError:
        raise AssertionError(f"not met within {within:g} s: {unmet(victims)}") from None


def unmet(victims: Sequence[ServiceProcess]) -> list[str]:
    """The failpoints that nobody has met yet."""
    return [str(each) for victim in victims for each in victim.unmet]


async def _undelivered(client: "redis.asyncio.Redis") -> int:
    number = 0
    for stream in (keys.JOBS, keys.AGAIN):
        delivered: Any = await client.xpending(stream, keys.GROUP)
        number += await client.xlen(stream) - delivered["pending"]
    return number
