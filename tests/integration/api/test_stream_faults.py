"""Whatever breaks while a story is written, its clients get the whole of it, in order, once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from uuid import UUID

import pytest

from service.embedded import EmbeddedPostgres, EmbeddedValkey
from service.streams import keys
from tests.fixtures.deployment import Deployment
from tests.fixtures.waiting import eventually
from tests.integration.api.watchers import Watcher

# About a second for each iteration.
_PACE = 0.25
_ITERATIONS = ["user-roles", "validation"]


@pytest.fixture
def valkey(valkey_server: EmbeddedValkey) -> Iterator[EmbeddedValkey]:
    """Valkey, running again after the test."""
    yield valkey_server
    if not valkey_server.is_running:
        valkey_server.start()


@pytest.fixture
def postgres(postgres_server: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """PostgreSQL, running again after the test."""
    yield postgres_server
    if not postgres_server.is_running:
        postgres_server.start()


class Audience:
    """A story being written, and clients that came before, during and after what broke."""

    def __init__(self, deployment: Deployment, job_id: UUID) -> None:
        self.deployment = deployment
        self.job_id = job_id
        self.watchers: list[Watcher] = []
        self._tasks: list[asyncio.Task[Watcher]] = []

    @classmethod
    async def gather(cls, deployment: Deployment) -> "Audience":
        """Start everything, and come when the first iteration is half told."""
        await deployment.start_api()
        await deployment.start_worker(offline_pace=_PACE)
        audience = cls(deployment, await deployment.submit(iterations=_ITERATIONS))
        first = audience.let_in()
        await eventually(lambda: len(first.ids) >= 6, what="the story is half told")
        return audience

    def let_in(self) -> Watcher:
        """One more client."""
        watcher = Watcher(self.deployment, self.job_id)
        self.watchers.append(watcher)
        self._tasks.append(asyncio.create_task(watcher.watch()))
        return watcher

    async def to_the_end(self) -> None:
        """Every client, one that comes too late included, has got the story that was stored."""
        self.let_in()
        async with asyncio.timeout(30):
            await asyncio.gather(*self._tasks)
        job = await self.deployment.ended(self.job_id)
        late = await Watcher(self.deployment, self.job_id).watch()
        assert job["status"] == "completed"
        for watcher in (*self.watchers, late):
            watcher.assert_sound(job)


async def test_without_a_fault_every_client_gets_the_story_that_was_stored(
    deployment: Deployment,
) -> None:
    audience = await Audience.gather(deployment)

    await audience.to_the_end()

    assert [watcher.connections for watcher in audience.watchers] == [1, 1]
    assert not any("resync" in watcher.types for watcher in audience.watchers)


async def _lose_everything(deployment: Deployment, _: UUID) -> None:
    await deployment.redis.flushall()


async def _lose_the_events(deployment: Deployment, job_id: UUID) -> None:
    await deployment.redis.delete(keys.events(job_id))


async def _lose_the_scripts(deployment: Deployment, _: UUID) -> None:
    await deployment.redis.script_flush()


async def _cut_the_subscription(deployment: Deployment, _: UUID) -> None:
    assert await deployment.redis.client_kill_filter(_type="pubsub") > 0


async def _cut_everybody(deployment: Deployment, _: UUID) -> None:
    await deployment.redis.client_kill_filter(_type="pubsub", skipme=True)
    await deployment.redis.client_kill_filter(_type="normal", skipme=True)


@pytest.mark.parametrize(
    "fault",
    [
        _lose_everything,
        _lose_the_events,
        _lose_the_scripts,
        _cut_the_subscription,
        _cut_everybody,
    ],
)
async def test_a_fault_of_redis_neither_ends_nor_cuts_a_story(
    deployment: Deployment, fault: Callable[[Deployment, UUID], Awaitable[None]]
) -> None:
    audience = await Audience.gather(deployment)

    await fault(deployment, audience.job_id)
    await audience.to_the_end()

    # Nobody had to come back: it happened behind the API.
    assert audience.watchers[0].connections == 1


async def test_an_empty_redis_after_a_restart_neither_ends_nor_cuts_a_story(
    deployment: Deployment, valkey: EmbeddedValkey
) -> None:
    audience = await Audience.gather(deployment)

    valkey.restart()
    await audience.to_the_end()

    assert audience.watchers[0].connections == 1


@pytest.mark.parametrize("away", [0.5, 3.0])
async def test_a_story_goes_on_while_redis_is_away_and_is_told_when_it_is_back(
    deployment: Deployment, valkey: EmbeddedValkey, away: float
) -> None:
    audience = await Audience.gather(deployment)

    valkey.kill()
    during = audience.let_in()
    await eventually(lambda: "connected" in during.types, what="who comes now is let in")
    await asyncio.sleep(away)  # the fault itself: an outage of that length
    valkey.start()
    await audience.to_the_end()

    assert audience.watchers[0].connections == 1


async def test_a_story_that_ends_while_redis_is_away_is_told_from_postgres(
    deployment: Deployment, valkey: EmbeddedValkey
) -> None:
    audience = await Audience.gather(deployment)

    valkey.kill()
    # Nobody starts it again: the end is in Postgres.
    await audience.to_the_end()


async def test_a_story_is_told_while_postgres_is_away_as_far_as_it_is_known(
    deployment: Deployment, postgres: EmbeddedPostgres
) -> None:
    audience = await Audience.gather(deployment)

    postgres.stop()
    await asyncio.sleep(1.5)  # the fault itself: an outage of that length
    postgres.start()
    await audience.to_the_end()

    assert audience.watchers[0].connections == 1


async def test_a_replica_that_stops_ends_its_streams_and_another_one_goes_on(
    deployment: Deployment,
) -> None:
    audience = await Audience.gather(deployment)
    stopping = deployment.url
    first = audience.watchers[0]

    await deployment.start_api()
    async with asyncio.timeout(2):
        await deployment.stop(stopping)
    assert first.connections == 1
    assert not first.has_ended
    await audience.to_the_end()

    assert first.connections == 2
    assert "resync" not in first.types


@pytest.mark.parametrize("after", ["before", "after"])
async def test_an_event_stream_that_expired_is_told_from_postgres(
    deployment: Deployment, after: str
) -> None:
    audience = await Audience.gather(deployment)
    if after == "before":
        await deployment.redis.pexpire(f"usa:events:{{{audience.job_id}}}", 1)
        audience.let_in()
    job = await deployment.ended(audience.job_id)
    if after == "after":
        await deployment.redis.delete(keys.events(audience.job_id))

    late = await Watcher(deployment, audience.job_id).watch()

    late.assert_sound(job)
    await audience.to_the_end()
