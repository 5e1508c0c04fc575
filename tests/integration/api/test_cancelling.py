"""Cancelling is decided in Postgres; everybody else hears of it at once."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from service.domain.events import BEGINNING
from service.streams import keys as stream_keys
from service.streams.connection import once_client
from service.streams.nudges import RedisNudges
from tests.fixtures.api import JOBS, RunningApi
from tests.fixtures.database import Observer
from tests.fixtures.waiting import eventually


@pytest.fixture
async def nudged(api: RunningApi, redis_url: str) -> AsyncIterator[list[UUID]]:
    """The jobs that workers were told to stop."""
    heard: list[UUID] = []
    once = once_client(redis_url, name="worker")
    api.stores.background.spawn("nudges", RedisNudges(api.redis, once).listen(heard.append))
    await eventually(lambda: _is_heard(api), what="the worker listens")
    yield heard
    await once.aclose()


async def _is_heard(api: RunningApi) -> bool:
    [(_, listeners)] = await api.redis.pubsub_numsub(stream_keys.CANCELLATIONS)
    return bool(listeners)


async def cancel(api: RunningApi, job: UUID) -> None:
    """Cancel a job, which must work."""
    async with api.client.delete(f"{JOBS}/{job}", headers=api.sending()) as response:
        assert response.status == 200, await response.text()
        assert await response.json() == {"id": str(job), "status": "cancelled"}


async def owes_event(observer: Observer, job: UUID) -> bool:
    """Whether maintenance would still have to tell of the end."""
    return bool(await observer.value("SELECT event_pending FROM jobs WHERE id = $1", job))


@pytest.mark.parametrize("is_running", [False, True])
async def test_a_job_is_cancelled_and_all_are_told(
    api: RunningApi, observer: Observer, nudged: list[UUID], is_running: bool
) -> None:
    job = await api.submit()
    if is_running:
        await api.claim(job)
    await cancel(api, job)

    document = await api.get(job)
    assert (document["status"], document["attempt"]) == ("cancelled", 1 + is_running)
    assert document["completedAt"] is not None
    await eventually(lambda: nudged == [job], what="the worker hears of it")
    [event] = await eventually(lambda: api.events.read_after(job, BEGINNING, 10))
    assert (event.type, str(event.id)) == ("cancelled", f"{1 + is_running}-1")
    await eventually(lambda: _is_settled(observer, job), what="nothing is owed any more")


async def _is_settled(observer: Observer, job: UUID) -> bool:
    return not await owes_event(observer, job)


async def test_cancelling_again_changes_nothing(api: RunningApi, observer: Observer) -> None:
    job = await api.submit()
    await cancel(api, job)
    first = await api.get(job)
    await cancel(api, job)
    assert await api.get(job) == first
    await eventually(lambda: len(api.stores.background) == 1, what="only the feed is left")
    assert len(await api.events.read_after(job, BEGINNING, 10)) == 1


async def test_one_of_many_cancellations_and_completions_wins(
    api: RunningApi, observer: Observer
) -> None:
    for _ in range(5):
        job = await api.submit()
        path = f"{JOBS}/{job}"

        async def delete(path: str = path) -> int:
            async with api.client.delete(path, headers=api.sending()) as response:
                return response.status

        async def complete(job: UUID = job) -> bool:
            try:
                await api.complete(job, {})
            except (AssertionError, ValueError):
                return False
            return True

        first, is_completed, second = await asyncio.gather(delete(), complete(), delete())
        ended = await api.get(job)
        assert ended["status"] == ("completed" if is_completed else "cancelled")
        assert {first, second} == ({409} if is_completed else {200})
