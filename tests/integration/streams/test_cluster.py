"""A client of a real cluster: commands find their server, and trouble with one is no other's."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, NoPermissionError, RedisError

from service.bootstrap.connections import event_feed
from service.domain.errors import Unavailable
from service.domain.events import EventId, EventType
from service.domain.frames import Frame
from service.domain.rate_limit import RatePolicy
from service.domain.upstream import Cost, Observed, Rates
from service.ports.events import EventFeed
from service.ports.upstream import Demand, Settlement
from service.streams import connection, keys
from service.streams.connection import command_client, once_client, redis_errors
from service.streams.event_log import RedisEventLog
from service.streams.inspection import inspect_redis
from service.streams.job_stream import ensure_group
from service.streams.leftovers import RedisLeftovers
from service.streams.nudges import RedisNudges
from service.streams.pending import RedisPending
from service.streams.queue_counts import RedisStreamCounter
from service.streams.rate_limit import RedisRateLimiter
from service.streams.upstream_budget import RedisUpstreamBudget
from service.supervision import Background
from service.telemetry.pools import PoolUse
from tests.fixtures.event_logs import an_event
from tests.fixtures.proxy import redis_proxy_to
from tests.fixtures.redis_servers import (
    HOST,
    OPERATOR,
    RedisProcess,
    RedisServers,
    as_cluster,
    cluster_is_made,
    free_ports,
)
from tests.fixtures.streams import JobStreams, pool_uses
from tests.fixtures.waiting import eventually

TTL = 60.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServers]:
    """One cluster for all tests here, which leave it whole."""
    with as_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        asyncio.run(cluster_is_made(servers))
        yield servers


@pytest.fixture
async def job_streams(servers: RedisServers) -> AsyncIterator[JobStreams]:
    for server in primaries(servers):
        told(server, "FLUSHALL")
    async with AsyncExitStack() as stack:
        streams = JobStreams(servers.url, stack)
        await ensure_group(streams.commands)
        yield streams


@pytest.fixture
def log(job_streams: JobStreams, background: Background) -> RedisEventLog:
    client = job_streams.client(command_client, "log", timeout=0.5)
    return RedisEventLog(client, background)


class Listener:
    """A feed in a cluster, and all that it has yielded."""

    def __init__(self, feed: EventFeed, background: Background) -> None:
        self.feed = feed
        self.heard: list[tuple[UUID, Frame] | None] = []
        background.spawn("listen", self._listen())

    async def _listen(self) -> None:
        async for each in self.feed.frames():
            self.heard.append(each)

    def ids(self, job_id: UUID) -> list[str]:
        return [str(each[1].id) for each in self.heard if each and each[0] == job_id]


@pytest.fixture
async def listener(job_streams: JobStreams, background: Background) -> Listener:
    once = job_streams.client(once_client, "feed", timeout=1.0)
    listener = Listener(event_feed(once, background), background)
    await eventually(lambda: listener.heard.count(None) == 3, what="all shards are listened to")
    return listener


def primaries(servers: RedisServers) -> list[RedisProcess]:
    return [each for each in servers.servers if each.role() == "master"]


def owner_of(servers: RedisServers, job_id: UUID) -> RedisProcess:
    return servers.primary_of(keys.events(job_id))


def a_job_of(servers: RedisServers, server: RedisProcess) -> UUID:
    """A job whose events are on a server."""
    shards = told(server, "CLUSTER SLOTS")
    ranges = [shard[:2] for shard in shards if int(shard[2][1]) == server.port]
    while True:
        job = uuid4()
        slot = key_slot(keys.events(job).encode())
        if any(first <= slot <= last for first, last in ranges):
            return job


@contextmanager
def moving_slot(
    servers: RedisServers, slot: int, before: RedisProcess, after: RedisProcess
) -> Iterator[None]:
    """Let a server take over a slot; inside the block both have a part of it."""
    names = [told(server, "CLUSTER MYID") for server in (before, after)]
    told(after, "CLUSTER SETSLOT", slot, "IMPORTING", names[0])
    told(before, "CLUSTER SETSLOT", slot, "MIGRATING", names[1])
    yield
    for server in (after, *(each for each in primaries(servers) if each.port != after.port)):
        told(server, "CLUSTER SETSLOT", slot, "NODE", names[1])


def told(server: RedisProcess, *command: Any) -> Any:
    """What an operator is told by one server."""
    with server.client() as client:
        return client.execute_command(*command)


def carry_over(key: str, before: RedisProcess, after: RedisProcess) -> None:
    """Move one key to the server that takes over its slot."""
    login = ("AUTH2", *OPERATOR.values())
    told(before, "MIGRATE", HOST, after.port, "", 0, 5000, *login, "KEYS", key)


async def test_every_script_and_command_of_the_service_stays_in_one_slot(
    job_streams: JobStreams, log: RedisEventLog, servers: RedisServers
) -> None:
    commands, once = job_streams.commands, job_streams.client(once_client, "once")
    one, two = job_streams.consumer("one"), job_streams.consumer("two", min_idle=0.0)
    entries = [await job_streams.add(attempt) for attempt in (0, 0, 0, 1, 1)]
    assert await one.read_new(9) == entries[3:]
    assert await one.read_new(9) == entries[:3]
    assert await one.read_own_pending() == entries[3:] + entries[:3]
    assert await job_streams.leases().renew_if_owner(entries) == 5
    assert await one.release_if_owner(entries[:1]) == 1
    assert len(await two.reclaim(9)) == 5
    assert await two.acknowledge_if_owner(entries[1:]) == 4
    pending = RedisPending(commands)
    recorded = [(0, entry.entry_id) for entry in entries[:2]]
    assert await pending.not_pending(recorded) == [False, True]
    assert await pending.undelivered(0, [entries[0].entry_id]) == [False]
    assert (await pending.state(0)).span is not None
    assert await pending.ensure_streams()
    assert [each.entries for each in await RedisStreamCounter(once).count_entries()] == [0, 1]
    leftovers = RedisLeftovers(commands)
    assert await leftovers.remove_dead_consumers(0.0) > 0
    assert await leftovers.delete_stray_entries() == 0
    await two.leave()

    jobs = [uuid4() for _ in range(20)]
    for job in jobs:
        assert (await log.append(job, [an_event(job, 1, 1)], TTL)).is_complete
    assert await log.last_ids(jobs) == dict.fromkeys(jobs, EventId(1, 1))
    assert (
        await log.redrive(jobs[0], an_event(jobs[0], 2, 1, EventType.RETRYING), TTL)
    ).is_complete
    assert [frame.id for frame in await log.read_after(jobs[0], EventId(0, 0), 9)] == [
        EventId(2, 1)
    ]
    await log.erase(jobs[0])
    await log.seal(jobs[1], TTL)

    budget = RedisUpstreamBudget(once, peer="one")
    rates = Rates(requests=60.0, input=1000.0, output=1000.0)
    cost = Cost(requests=1, input=1, output=1)
    demand = Demand(model="m", ticket="t", user="u", cost=cost, configured=rates)
    assert (await budget.reserve(demand)).granted
    await budget.observe("m", Observed(limits=rates, remaining=rates))
    await budget.settle(Settlement(model="m", reserved=cost, used=cost))
    await budget.leave("m", "t")
    verdict = await RedisRateLimiter(once).take(RatePolicy(name="submit", quota=5), ("a", "b"))
    assert verdict.allowed
    assert servers.refused() == []


async def test_frames_come_from_the_shard_of_their_job_alone(
    log: RedisEventLog, listener: Listener, servers: RedisServers
) -> None:
    jobs = [a_job_of(servers, server) for server in primaries(servers)]
    for job in jobs:
        await listener.feed.subscribe(job)
        await log.append(job, [an_event(job, 1, 1)], TTL)
    await eventually(lambda: all(listener.ids(job) == ["1-1"] for job in jobs))

    for server, job in zip(primaries(servers), jobs, strict=True):
        assert told(server, "PUBSUB SHARDCHANNELS") == [keys.live(job)]
    await listener.feed.unsubscribe(jobs[0])
    await log.append(jobs[0], [an_event(jobs[0], 1, 2)], TTL)
    await log.append(jobs[1], [an_event(jobs[1], 1, 2)], TTL)
    await eventually(lambda: listener.ids(jobs[1]) == ["1-1", "1-2"])
    assert listener.ids(jobs[0]) == ["1-1"]


async def test_a_job_watched_before_anybody_knew_the_cluster_is_heard(
    job_streams: JobStreams, log: RedisEventLog, background: Background
) -> None:
    once, job = job_streams.client(once_client, "feed"), uuid4()
    feed = event_feed(once, background)
    with pytest.raises(Unavailable):
        await feed.subscribe(job)
    await once.ping()
    listener = Listener(feed, background)

    await eventually(lambda: listener.heard.count(None) >= 3)
    await log.append(job, [an_event(job, 1, 1)], TTL)
    await eventually(lambda: listener.ids(job) == ["1-1"])


async def test_a_job_whose_last_reader_leaves_while_slots_are_learned_is_simply_not_heard(
    job_streams: JobStreams, background: Background
) -> None:
    once = job_streams.client(once_client, "feed", timeout=1.0)
    feed = event_feed(once, background)
    jobs = [uuid4() for _ in range(20)]
    for job in jobs:
        with suppress(Unavailable):
            await feed.subscribe(job)
    cluster = connection.as_cluster(once)
    assert cluster is not None
    listener = Listener(feed, background)
    while not cluster.servers:  # noqa: ASYNC110 - they leave in the very moment that it is known
        await asyncio.sleep(0)  # anything longer would miss that moment
    await asyncio.gather(*map(feed.unsubscribe, jobs))
    await eventually(lambda: listener.heard.count(None) >= 3, what="all shards are listened to")


async def test_a_reader_that_comes_as_the_last_one_leaves_disturbs_nobody(
    log: RedisEventLog, listener: Listener
) -> None:
    job = uuid4()
    await listener.feed.subscribe(job)
    connected = listener.heard.count(None)
    for seq in range(1, 21):
        await listener.feed.unsubscribe(job)
        await listener.feed.subscribe(job)
        await log.append(job, [an_event(job, 1, seq)], TTL)
    await eventually(lambda: len(listener.ids(job)) == 20)
    assert listener.heard.count(None) == connected


async def test_a_slot_that_moves_takes_its_commands_and_its_frames_along(
    log: RedisEventLog, listener: Listener, servers: RedisServers
) -> None:
    before, after, _ = primaries(servers)
    job, other = a_job_of(servers, before), a_job_of(servers, after)
    for each in (job, other):
        await listener.feed.subscribe(each)
        assert (await log.append(each, [an_event(each, 1, 1)], TTL)).is_complete
    await eventually(lambda: listener.ids(job) == ["1-1"])

    # What is there stays until it is carried over; what is not is made where it will be.
    with moving_slot(servers, key_slot(keys.events(job).encode()), before, after):
        assert (await log.last_ids([job])) == {job: EventId(1, 1)}
        assert (await log.append(job, [an_event(job, 1, 2)], TTL)).is_complete
        carry_over(keys.events(job), before, after)
        assert (await log.append(job, [an_event(job, 1, 3)], TTL)).is_complete
        assert [str(each.id) for each in await log.read_after(job, EventId(1, 1), 9)] == [
            "1-2",
            "1-3",
        ]
    assert (await log.append(job, [an_event(job, 1, 4)], TTL)).is_complete
    assert (await log.last_ids([job, other])) == {job: EventId(1, 4), other: EventId(1, 1)}

    async def is_heard_again() -> bool:
        last = (await log.last_ids([job]))[job]
        await log.append(job, [an_event(job, 1, last.seq + 1)], TTL)
        return str(last) in listener.ids(job)

    await eventually(is_heard_again, within=20.0)
    assert told(before, "PUBSUB SHARDCHANNELS") == []


async def test_a_frozen_server_delays_the_jobs_of_others_by_nothing(
    log: RedisEventLog, listener: Listener, servers: RedisServers
) -> None:
    frozen = next(
        each for each in primaries(servers) if each.port != servers.primary_of(keys.JOBS).port
    )
    away = a_job_of(servers, frozen)
    well = [a_job_of(servers, each) for each in primaries(servers) if each.port != frozen.port]
    for job in well:
        await listener.feed.subscribe(job)
        assert await log.last_ids([job]) == {}
    assert frozen.popen is not None
    frozen.popen.send_signal(signal.SIGSTOP)
    try:
        lost, *appends = [
            asyncio.create_task(log.append(job, [an_event(job, 1, 1)], TTL))
            for job in (away, *well)
        ]
        assert [each.is_complete for each in await asyncio.gather(*appends)] == [True, True]
        assert not lost.done()
        with pytest.raises(Unavailable):
            await lost
        await eventually(lambda: all(listener.ids(job) == ["1-1"] for job in well))
    finally:
        frozen.popen.send_signal(signal.SIGCONT)

    async def is_there() -> bool:
        try:
            return (await log.append(away, [an_event(away, 1, 1)], TTL)).is_complete
        except Unavailable:
            return False

    await eventually(is_there, within=20.0, what="it is back, or another took its place")
    await eventually(lambda: len(primaries(servers)) == 3, within=20.0)


async def test_two_frozen_servers_delay_the_commands_of_a_third_by_nothing(
    job_streams: JobStreams, servers: RedisServers
) -> None:
    client = job_streams.client(once_client, "two", timeout=0.3)
    one, two, well = primaries(servers)
    away = [keys.events(a_job_of(servers, each)) for each in (one, two)]
    there = keys.events(a_job_of(servers, well))
    assert await asyncio.gather(*map(client.xlen, (*away, there))) == [0, 0, 0]
    cluster = connection.as_cluster(client)
    assert cluster is not None
    assert one.popen is not None
    assert two.popen is not None
    for frozen in (one.popen, two.popen):
        frozen.send_signal(signal.SIGSTOP)
    try:
        for _ in range(5):
            lost = await asyncio.gather(*map(client.xlen, away), return_exceptions=True)
            assert all(isinstance(each, RedisError) for each in lost)
            silent = asyncio.ensure_future(cluster.client_of((HOST, one.port)).ping())
            # A third of the servers does not make a cluster for long.
            with suppress(ClusterDownError):
                await client.xlen(there)
            assert not silent.done()
            with pytest.raises(RedisError):
                await silent
    finally:
        for frozen in (one.popen, two.popen):
            frozen.send_signal(signal.SIGCONT)
    await eventually(lambda: all(map(is_well, servers.servers)), within=20.0)


def is_well(server: RedisProcess) -> bool:
    return bool(told(server, "CLUSTER INFO")["cluster_state"] == "ok")


async def test_a_cancellation_is_heard_wherever_it_was_sent(
    job_streams: JobStreams, background: Background
) -> None:
    heard: list[UUID] = []
    nudges = RedisNudges(
        job_streams.commands, job_streams.client(once_client, "nudges", timeout=1.0)
    )
    background.spawn("listen", nudges.listen(heard.append))
    job = uuid4()

    async def is_heard() -> bool:
        await nudges.cancel(job)
        return job in heard

    await eventually(is_heard)


async def test_who_scales_workers_may_look_and_do_nothing_else(
    job_streams: JobStreams, servers: RedisServers
) -> None:
    scaler = servers.url.replace("usa:change-usa@", "usa_scaler:change-scaler@")
    client = job_streams.client(once_client, "scaler", url=scaler)
    assert await client.xlen(keys.JOBS) == 0
    assert (await client.xpending(keys.JOBS, keys.GROUP))["pending"] == 0
    assert len(await client.xinfo_groups(keys.JOBS)) == 1
    # KEDA asks for the version before it asks for the lag.
    assert await client.info()
    for forbidden in (client.xadd(keys.JOBS, {"job": "x"}), client.xlen(keys.events(uuid4()))):
        with pytest.raises(NoPermissionError):
            await forbidden


async def test_the_doctor_sees_a_cluster(job_streams: JobStreams) -> None:
    facts = await inspect_redis(job_streams.commands)
    assert (facts.shards, facts.missing_groups, facts.eviction) == (3, (), "noeviction")


@pytest.mark.parametrize(
    "address", ["redis+cluster://127.0.0.1:1", "redis+sentinel://127.0.0.1:1/usa"]
)
async def test_an_address_where_nobody_is_is_unavailable(
    job_streams: JobStreams, address: str
) -> None:
    client = job_streams.client(once_client, "lost", url=address, timeout=0.5)
    with pytest.raises(Unavailable) as away, redis_errors():
        await client.ping()
    assert "127.0.0.1:1" in str(away.value.__cause__)


async def test_a_server_that_has_lost_all_it_knew_is_not_believed(
    job_streams: JobStreams, servers: RedisServers, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    alone = RedisProcess("redis-server", tmp_path / "alone", "cluster.conf", port)
    alone.start()
    try:
        await eventually(lambda: alone.role() == "master")
        url = servers.url.replace("@", f"@{HOST}:{port},")
        client = job_streams.client(once_client, "seeded", url=url)
        with redis_errors():
            assert await client.xlen(keys.JOBS) == 0
    finally:
        alone.kill()


async def test_a_slot_that_nobody_has_concerns_its_own_jobs_alone(
    log: RedisEventLog, servers: RedisServers
) -> None:
    job, other = uuid4(), uuid4()
    slot, owner = key_slot(keys.events(job).encode()), owner_of(servers, job)
    running = [each for each in servers.servers if each.is_running]
    for server in running:
        told(server, "CLUSTER DELSLOTS", slot)
    try:
        appends = [log.append(each, [an_event(each, 1, 1)], TTL) for each in (job, other)]
        lost, appended = await asyncio.gather(*appends, return_exceptions=True)
    finally:
        told(owner, "CLUSTER ADDSLOTS", slot)
        for server in primaries(servers):
            if server.port != owner.port:
                told(server, "CLUSTER SETSLOT", slot, "NODE", told(owner, "CLUSTER MYID"))
    assert isinstance(lost, Unavailable)
    assert getattr(appended, "is_complete", appended) is True


async def test_a_server_that_is_no_cluster_says_so(redis_url: str) -> None:
    async with redis_proxy_to(redis_url) as (proxy, _):
        client = once_client(f"redis+cluster://127.0.0.1:{proxy.port}", name="wrong")
        with pytest.raises(Unavailable) as away, redis_errors():
            await client.ping()
        await client.aclose()
    assert "cluster support disabled" in str(away.value.__cause__)


async def test_the_connections_in_use_are_those_of_the_busiest_server(
    job_streams: JobStreams,
) -> None:
    before, idle, lent = await pool_uses(job_streams)

    assert before == PoolUse(used=0, idle=0, most=0)
    assert idle.used == 0
    assert idle.idle >= 1
    assert lent.used == 1
    assert lent.most > 1
