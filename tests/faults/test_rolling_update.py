"""One version replaces the other, process by process: nobody who uses the service notices."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import pytest
import redis.asyncio

from service.bootstrap import migrate
from service.client.api_client import ApiClient
from service.client.event_stream import StreamEvent
from service.settings import Settings
from service.streams import keys
from tests.faults.aftermath import nothing_went_wrong
from tests.faults.stories import story
from tests.fixtures.figures import show
from tests.fixtures.invariants import faults_of_stories
from tests.fixtures.processes import (
    THIS_RELEASE,
    Cluster,
    Release,
    ServiceProcess,
    managing,
    scrubbed,
)
from tests.fixtures.proxy import Proxy, Streams
from tests.fixtures.scale import scaled
from tests.fixtures.tools import needed_commit, needed_environment
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(scaled(480, 900))

# The last one of version 0.1.0 before it was run by others.
PREVIOUS = "a56cc4abf719178acac9d807a2bbe8733cf20ad8"
APIS, WORKERS = 2, 4
FOLLOWERS = scaled(6, 20)
REPEATERS = scaled(1, 4)
JOBS_BETWEEN = scaled(2, 20)
PRE_STOP = 0.5
_ITERATIONS = ["validation", "security", "accessibility"]


@pytest.fixture(scope="session")
def previous_release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The version before this one, in an environment of its own."""
    folder = tmp_path_factory.mktemp("previous")
    needed_commit(PREVIOUS, folder)
    programs = needed_environment(folder / "requirements" / "runtime.lock", folder / "environment")
    return Release(folder, programs / "python")


@dataclass
class Service:
    """What Kubernetes calls a Service: each new connection goes to one of the ready endpoints."""

    endpoints: list[str] = field(default_factory=list)
    _turns: Iterator[int] = field(default_factory=count)

    async def connect(self) -> Streams:
        """Connect to the next endpoint."""
        url = urlsplit(self.endpoints[next(self._turns) % len(self.endpoints)])
        return await asyncio.open_connection(url.hostname, url.port)

    @asynccontextmanager
    async def reachable(self) -> AsyncIterator[str]:
        """Listen inside this block; yields the address."""
        proxy = Proxy(self.connect)
        await proxy.open()
        try:
            yield f"http://127.0.0.1:{proxy.port}"
        finally:
            await proxy.close()


@dataclass
class Fleet:
    """The processes that serve, oldest first."""

    cluster: Cluster
    service: Service = field(default_factory=Service)
    apis: list[tuple[str, ServiceProcess]] = field(default_factory=list)
    workers: list[ServiceProcess] = field(default_factory=list)

    async def grow(self, release: Release, apis: int, workers: int) -> None:
        """Start processes of a release, and send them connections once they are ready."""
        self.cluster.release = release
        for _ in range(apis):
            api = await self.cluster.start_api()
            self.apis.append((self.cluster.address, api))
            self.service.endpoints.append(self.cluster.address)
        self.workers += await self.cluster.start_workers(workers)

    async def replace_all(self, release: Release, load: "Load") -> None:
        """Replace every process by one of a release, one after the other."""
        for _ in range(APIS):
            await self.grow(release, 1, 0)
            address, leaving = self.apis.pop(0)
            self.service.endpoints.remove(address)
            await _leave(leaving)
            await load.goes_on()
        for _ in range(WORKERS):
            await self.grow(release, 0, 1)
            await _leave(self.workers.pop(0))
            await load.goes_on()


async def _leave(process: ServiceProcess) -> None:
    # This is what the chart's preStop is, no wait for anything: connections that are just being
    # opened still find somebody.
    await asyncio.sleep(PRE_STOP)
    process.send(signal.SIGTERM)
    assert await process.ended(within=30.0) == 0


@dataclass
class Load:
    """Users who submit and follow with our client, and others who never try anything again."""

    address: str
    key: str
    told: dict[UUID, list[StreamEvent]] = field(default_factory=dict)
    repeated: set[UUID] = field(default_factory=set)
    troubles: list[str] = field(default_factory=list)
    answers: int = 0
    keeps_connections: bool = False
    is_over: bool = False
    _numbers: Iterator[int] = field(default_factory=count)

    async def follow(self) -> None:
        """Submit a story, follow it to its end, and begin again."""
        async with ApiClient(self.address, self.key, on_trouble=self.troubles.append) as client:
            while not self.is_over:
                accepted = await client.submit(story(next(self._numbers)), iterations=_ITERATIONS)
                job_id = UUID(accepted["job"]["id"])
                self.told[job_id] = [event async for event in client.follow(job_id)]

    async def repeat(self) -> None:
        """Submit one and the same job again and again, in a way that no client tries again."""
        headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": "always-the-same"}
        body = {"story": story(1_000_000), "iterations": _ITERATIONS}
        async with aiohttp.ClientSession(self.address, headers=headers) as session:
            while not self.is_over:
                closing = {} if self.keeps_connections else {"Connection": "close"}
                async with session.post("/api/v1/jobs", json=body, headers=closing) as answer:
                    assert answer.status in {200, 202}, await answer.text()
                    document = await answer.json()
                self.repeated.add(UUID(document["job"]["id"]))
                self.answers += 1

    async def goes_on(self) -> None:
        """Return once jobs have been followed to their ends, and answers have come, anew."""
        ended, answered = len(self.told), self.answers
        await eventually(
            lambda: len(self.told) >= ended + JOBS_BETWEEN and self.answers > answered,
            within=60.0,
            what="the load goes on",
        )


@pytest.fixture
async def cluster(
    previous_release: Release, redis_url: str, database_url: str, tmp_path: Path
) -> AsyncIterator[Cluster]:
    """A database and a key made by the version before, and no process yet."""
    command = partial(_output, previous_release, {"USA_DATABASE_URL": database_url})
    command("migrate")
    made = command(
        "keys", "create", "--tenant", "acme", "--user", "ann", "--tier", "unlimited", "--json"
    )
    key = json.loads(made)["key"]
    async with managing(redis_url, database_url, tmp_path, key) as cluster:
        yield cluster


def _output(release: Release, environment: Mapping[str, str], *command: str) -> str:
    done = subprocess.run(
        [release.python, "-m", "service", *command],
        cwd=release.folder,
        env={**scrubbed(os.environ), **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


async def test_nobody_notices_that_one_version_replaces_the_other_and_is_replaced_again(
    cluster: Cluster, previous_release: Release
) -> None:
    fleet = Fleet(cluster)
    cluster.environment |= {
        # Jobs outlast the workers that they begin with.
        "USA_OFFLINE_PACE": "0.3",
        "USA_SHUTDOWN_GRACE": "0.5",
        "USA_DRAIN_DELAY": "1",
    }
    await fleet.grow(previous_release, APIS, WORKERS)
    async with fleet.service.reachable() as address:
        load = Load(address, cluster.key)
        async with asyncio.TaskGroup() as users:
            for _ in range(FOLLOWERS):
                users.create_task(load.follow())
            for _ in range(REPEATERS):
                users.create_task(load.repeat())
            await load.goes_on()
            await migrate(Settings(database_url=cluster.environment["USA_DATABASE_URL"]))
            await fleet.replace_all(THIS_RELEASE, load)
            upgraded = len(load.told)
            # What leaves now says of every connection that it is its last answer.
            load.keeps_connections = True
            await fleet.replace_all(previous_release, load)
            load.is_over = True

    assert len(load.repeated) == 1
    await nothing_went_wrong(cluster, dict.fromkeys({*load.told, *load.repeated}, "completed"))
    assert await faults_of_stories(cluster, load.told) == []
    resyncs = [event for told in load.told.values() for event in told if event.type == "resync"]
    assert resyncs == []
    assert await cluster.count("SELECT sum(crash_count + error_count) FROM jobs") == 0
    handed_back = await cluster.count("SELECT sum(handback_count) FROM jobs")
    assert handed_back > 0
    assert load.troubles != [], "no stream was cut"
    show(
        f"{len(load.told)} jobs followed ({upgraded} until all was new), {handed_back} hand-backs,"
        f" {load.answers} answers, {len(load.troubles)} troubles of streams and connections"
    )


async def test_what_a_later_version_adds_to_a_job_does_not_keep_this_one_from_finishing_it(
    cluster: Cluster,
) -> None:
    cluster.release = THIS_RELEASE
    cluster.environment |= {"USA_OFFLINE_PACE": "1", "USA_SHUTDOWN_GRACE": "0.5"}
    await migrate(Settings(database_url=cluster.environment["USA_DATABASE_URL"]))
    await cluster.start_api()
    async with cluster.client() as client:
        accepted = await client.submit(story(1), iterations=_ITERATIONS)
    job_id = UUID(accepted["job"]["id"])
    async with redis.asyncio.Redis.from_url(cluster.environment["USA_REDIS_URL"]) as streams:
        await streams.xadd(keys.JOBS, {"job": str(job_id), "ofLater": "1"})
    await cluster.database.execute("UPDATE jobs SET options = options || '{\"ofLater\": 1}'")
    (leaving,) = await cluster.start_workers(1)
    await eventually(
        lambda: cluster.count("SELECT count(*) FROM checkpoints"), within=60.0, what="a checkpoint"
    )
    leaving.send(signal.SIGTERM)
    assert await leaving.ended(within=30.0) == 0
    await cluster.database.execute("UPDATE checkpoints SET output = output || '{\"ofLater\": 1}'")

    await cluster.start_workers(1)

    assert await cluster.all_ended(1, within=60.0) == {"completed": 1}
    await nothing_went_wrong(cluster, {job_id: "completed"})
    assert await cluster.count("SELECT attempt FROM jobs") == 2
