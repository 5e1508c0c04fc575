"""One subscription for all readers of a job, and the look at jobs that say nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from service.agent.noop import NoopAgent
from service.api import reader as reader_module
from service.api.reader import Reader
from service.api.snapshots import Snapshots
from service.api.tails import TailHub
from service.domain.events import BEGINNING, EventId
from service.domain.job import Job
from service.domain.transitions import Complete
from service.postgres.pool import Database
from service.streams.connection import command_client, once_client
from service.streams.event_feed import RedisEventFeed
from service.streams.event_log import RedisEventLog
from tests.fixtures.database import Stores
from tests.fixtures.event_logs import an_event
from tests.fixtures.factories import an_owner
from tests.fixtures.proxy import Proxy, redis_proxy_to
from tests.fixtures.waiting import eventually
from tests.integration.postgres.steps import accepted, claimed

_SOON = 0.05
_ANSWER = 0.3


class Hub:
    """A hub that looks at every job it is asked to, on a Redis that can be frozen."""

    def __init__(self, stores: Stores, proxy: Proxy, url: str, stack: AsyncExitStack) -> None:
        self.stores = stores
        self.proxy = proxy
        once = once_client(url, name="hub-once", timeout=_ANSWER)
        commands = command_client(url, name="hub", timeout=_ANSWER)
        stack.push_async_callback(once.aclose)
        stack.push_async_callback(commands.aclose)
        stack.push_async_callback(stores.background.cancel)
        self.log = RedisEventLog(commands, stores.background)
        self.feed = RedisEventFeed(once)
        snapshots = Snapshots(stores.jobs, {"noop": NoopAgent()})
        self.tails = TailHub(self.log, self.feed, stores.jobs, snapshots, silence=0.0)
        self.gone: set[str] = set()

    @asynccontextmanager
    async def reader(self, job: Job, name: str = "") -> AsyncIterator[Reader]:
        """A reader from the beginning, whose client is there until it is `gone`."""
        async with self.tails.read(
            job,
            BEGINNING,
            tenant_id=job.owner.tenant_id,
            user_id=job.owner.user_id,
            is_gone=lambda: name in self.gone,
        ) as reader:
            yield reader


@pytest.fixture
async def hub(stores: Stores, redis_url: str) -> AsyncIterator[Hub]:
    """A hub that hears."""
    async with redis_proxy_to(redis_url) as (proxy, url), AsyncExitStack() as stack:
        hub = Hub(stores, proxy, url, stack)
        stores.background.spawn("tails", hub.tails.run())
        await eventually(lambda: hub.feed._connection, what="the feed is connected")
        yield hub


async def ids(reader: Reader) -> list[str]:
    """What comes next, until nothing more does."""
    found: list[str] = []
    while batch := await reader.next_batch(_SOON):
        found += [str(frame.id) for frame in batch if frame.id is not None]
    return found


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the statements that are run from now on."""
    names: list[str] = []
    fetch = Database.fetch

    async def noting(self: Database, name: str, *parameters: Any) -> Any:
        names.append(name)
        return await fetch(self, name, *parameters)

    monkeypatch.setattr(Database, "fetch", noting)
    return names


async def test_all_silent_jobs_are_looked_at_in_one_statement(
    hub: Hub, stores: Stores, statements: list[str]
) -> None:
    jobs = [await accepted(stores) for _ in range(30)]
    async with AsyncExitStack() as stack:
        for job in jobs * 2:
            await ids(await stack.enter_async_context(hub.reader(job)))
        statements.clear()

        await hub.tails.check_silence()

        assert statements == ["read_fences"]


async def test_nobody_watching_costs_nothing(
    hub: Hub, stores: Stores, statements: list[str]
) -> None:
    job = await accepted(stores)
    async with hub.reader(job):
        pass
    statements.clear()

    await hub.tails.check_silence()

    assert statements == []


async def test_a_job_that_was_heard_of_or_looked_at_is_left_alone_for_a_while(
    hub: Hub, stores: Stores, statements: list[str]
) -> None:
    job = await accepted(stores)
    async with hub.reader(job) as reader:
        hub.tails._silence = 60.0
        watch = hub.tails._watches[job.id]
        await hub.tails.check_silence()
        assert statements.count("read_fences") == 0

        watch.known_at -= 61.0
        await hub.tails.check_silence()
        await hub.tails.check_silence()
        assert statements.count("read_fences") == 1

        watch.known_at -= 61.0
        assert await ids(reader) == []
        await hub.log.append(job.id, [an_event(job.id, 1, 1)], 60.0)
        assert await ids(reader) == ["1-1"]
        await hub.tails.check_silence()
        assert statements.count("read_fences") == 1


async def test_what_was_told_while_the_subscription_was_cut_is_read_when_it_is_made_again(
    hub: Hub, stores: Stores
) -> None:
    job = await accepted(stores)
    async with hub.reader(job) as reader:
        assert await ids(reader) == []
        hub.proxy.cut()
        await _append_unheard(hub, job)

        batch = await reader.next_batch(3.0)

        assert [str(frame.id) for frame in batch] == ["1-1"]


async def test_a_lost_message_is_found_by_looking(hub: Hub, stores: Stores) -> None:
    job = await accepted(stores)
    async with hub.reader(job) as reader:
        assert await ids(reader) == []
        await _append_unheard(hub, job)

        await hub.tails.check_silence()

        assert await ids(reader) == ["1-1"]


async def _append_unheard(hub: Hub, job: Job) -> None:
    """Append an event of which nobody is told."""
    await hub.log._client.xadd(f"usa:events:{{{job.id}}}", _fields(job), id="1-1")


def _fields(job: Job) -> dict[Any, Any]:
    return {"type": "iteration:start", "data": b'{"jobId":"%s"}' % str(job.id).encode()}


@pytest.mark.parametrize("redis", ["there", "away"])
async def test_an_end_whose_event_was_lost_is_found_by_looking(
    hub: Hub, stores: Stores, redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_PAUSE_AFTER_FAILURE", 0.0)
    claim = await claimed(stores)
    assert claim.job is not None
    async with hub.reader(claim.job) as reader:
        assert await ids(reader) == []
        recorded = await stores.attempts.record_if_current(
            claim.fence, Complete({"ok": True}), EventId(1, 8)
        )
        assert recorded.applied
        if redis == "away":
            hub.proxy.freeze()

        await hub.tails.check_silence()

        assert await ids(reader) == ["1-8"]
        assert reader.has_ended


async def test_a_job_that_is_gone_ends_its_readers(hub: Hub, stores: Stores) -> None:
    job = await accepted(stores)
    async with hub.reader(job) as reader:
        async with stores.database.connection() as connection:
            await connection.execute("DELETE FROM jobs WHERE id = $1", job.id)

        await hub.tails.check_silence()

        assert reader.has_ended


async def test_only_the_readers_whose_client_is_gone_are_ended(hub: Hub, stores: Stores) -> None:
    job = await accepted(stores)
    async with hub.reader(job, "first") as first, hub.reader(job, "second") as second:
        hub.gone.add("first")

        await hub.tails.check_silence()

        assert (first.has_ended, second.has_ended) == (True, False)


async def test_who_leaves_while_waiting_for_the_subscription_takes_nobody_along(
    hub: Hub, stores: Stores
) -> None:
    job = await accepted(stores)
    entered: list[str] = []

    async def enter(name: str) -> None:
        async with hub.reader(job):
            entered.append(name)

    hub.proxy.freeze()
    tasks = {name: asyncio.create_task(enter(name)) for name in ("1st", "2nd", "3rd", "4th")}
    await eventually(lambda: job.id in hub.tails._watches)
    await eventually(lambda: len(hub.tails._watches[job.id].readers) == 4)
    tasks["2nd"].cancel()
    tasks["1st"].cancel()
    await asyncio.wait({tasks["1st"], tasks["2nd"]})
    hub.proxy.thaw()
    await asyncio.gather(tasks["3rd"], tasks["4th"])

    assert entered == ["3rd", "4th"]
    assert hub.tails._watches == {}


async def test_after_closing_new_readers_end_at_once(hub: Hub, stores: Stores) -> None:
    job = await accepted(stores, an_owner())
    async with hub.reader(job) as before:
        await hub.tails.close()
        async with hub.reader(job) as after:
            assert (before.has_ended, after.has_ended) == (True, True)
            assert await after.next_batch(1.0) == []
