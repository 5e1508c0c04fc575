"""SIGSTOP past the lease, then SIGCONT: what wakes up tries to write, and changes nothing."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import redis.asyncio

from service.agent.model_stub import ModelStub, StubCall
from service.streams import keys, scripts
from tests.faults.aftermath import nothing_went_wrong
from tests.faults.jobs import feed, submit, submit_stories
from tests.fixtures.failpoints import Failpoint
from tests.fixtures.processes import Cluster, ServiceProcess
from tests.fixtures.scraping import counted
from tests.fixtures.waiting import eventually

JOBS = 4
FENCED = "usa_writes_fenced_total"
# One job that has lost a worker at a time: several heirs take several jobs over.
HEIRS = 2

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator["redis.asyncio.Redis"]:
    """A look into the cluster's Redis."""
    async with redis.asyncio.Redis.from_url(cluster.environment["USA_REDIS_URL"]) as client:
        yield client


@pytest.fixture
async def slow_stub() -> AsyncIterator[ModelStub]:
    """A stand-in for Claude whose calls last long enough to be frozen in."""
    stub = ModelStub(pause=0.08)
    await stub.start()
    yield stub
    await stub.stop()


async def freeze(worker: ServiceProcess) -> None:
    worker.send(signal.SIGSTOP)
    await eventually(lambda: worker.is_frozen, what="it is frozen")


async def wake(zombies: Iterable[ServiceProcess]) -> None:
    """Let them go on, until none has anything left to do."""
    for zombie in zombies:
        zombie.send(signal.SIGCONT)
    for zombie in zombies:
        await eventually(partial(is_idle, zombie), what="it has given up what it had")


async def is_idle(worker: ServiceProcess) -> bool:
    return await counted(worker, "usa_worker_slots", state="busy") == 0


async def of_first_attempts(cluster: Cluster, client: "redis.asyncio.Redis") -> Mapping[str, Any]:
    """What the zombie has left: its checkpoints, its events, and which calls it made."""
    return {
        "checkpoints": await cluster.rows(
            "SELECT * FROM checkpoints WHERE attempt = 1 ORDER BY job_id, step"
        ),
        "calls": await cluster.rows(
            "SELECT job_id, call FROM usage_records WHERE attempt = 1 ORDER BY job_id, call"
        ),
        "events": {
            key: await client.xrange(key, "1-1", "1")
            for key in sorted(await client.keys("usa:events:*"))
        },
    }


async def everything(cluster: Cluster, client: "redis.asyncio.Redis") -> Mapping[str, Any]:
    """All that a zombie could change, but for what its own calls have cost."""
    return {
        "jobs": await cluster.rows("SELECT * FROM jobs ORDER BY id"),
        "checkpoints": await cluster.rows("SELECT * FROM checkpoints ORDER BY job_id, step"),
        "ledger": await cluster.rows(
            "SELECT * FROM usage_records WHERE attempt > 1 ORDER BY job_id, attempt, call"
        ),
        "calls": await cluster.rows(
            "SELECT job_id, attempt, call FROM usage_records ORDER BY job_id, attempt, call"
        ),
        "events": {
            key: (await client.xrange(key), (await client.xinfo_stream(key))["last-generated-id"])
            for key in sorted(await client.keys("usa:events:*"))
        },
        "entries": [
            (await client.xrange(stream), await client.xpending(stream, keys.GROUP))
            for stream in (keys.JOBS, keys.AGAIN)
        ],
    }


async def test_it_changes_nothing_while_others_run_its_jobs(
    cluster: Cluster, client: "redis.asyncio.Redis"
) -> None:
    await cluster.start_api()
    (zombie,) = await cluster.start_workers(1, USA_CONCURRENCY=str(JOBS))
    jobs = await submit(cluster, JOBS, steps=4, stepSeconds=1.0)
    await eventually(lambda: all_in_second_call(cluster), within=20, what="all are in a call")
    await freeze(zombie)
    await cluster.start_workers(HEIRS, USA_CONCURRENCY=str(JOBS))
    await eventually(lambda: all_taken_over(cluster), within=30, what="all are taken over")
    left = await of_first_attempts(cluster, client)
    assert (await cluster.statuses())["processing"] > 0

    await wake([zombie])

    assert await counted(zombie, FENCED, write="checkpoint") > 0
    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    assert await of_first_attempts(cluster, client) == left
    assert await cluster.count("SELECT count(*) FROM jobs WHERE error_count > 0") == 0


async def all_in_second_call(cluster: Cluster) -> bool:
    """Whether every job has a finished call, and has just begun another."""
    return (
        await cluster.count("SELECT count(*) FROM usage_records WHERE call = 2 AND ending IS NULL")
        == JOBS
    )


async def all_taken_over(cluster: Cluster) -> bool:
    return await cluster.count("SELECT count(*) FROM jobs WHERE attempt > 1") == JOBS


async def test_answers_that_wait_for_it_are_paid_and_not_kept(
    cluster: Cluster, client: "redis.asyncio.Redis", slow_stub: ModelStub
) -> None:
    cluster.environment |= {
        "USA_MODEL": "anthropic",
        "ANTHROPIC_API_KEY": "sk-ant-of-the-test",
        "ANTHROPIC_BASE_URL": slow_stub.address,
        "USA_CONCURRENCY": str(JOBS),
    }
    await cluster.start_api()
    # Awake, it must learn from the write that it is fenced, not from a renewal that comes first.
    (zombie,) = await cluster.start_workers(1, USA_LEASE="300", USA_RENEW_EVERY="90")
    jobs = await submit_stories(cluster, JOBS)
    await eventually(lambda: len(being_written(slow_stub)) == JOBS, within=20, what="all are read")
    await freeze(zombie)
    unread = being_written(slow_stub)
    await cluster.rows("UPDATE jobs SET lease_until = clock_timestamp() RETURNING id")
    await cluster.start_workers(HEIRS)
    assert await cluster.all_ended(JOBS, within=40) == {"completed": JOBS}
    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    before = await everything(cluster, client)
    # They stand in its sockets by now, whole.
    assert [call.completed for call in unread] == [True] * JOBS

    await wake([zombie])

    assert await counted(zombie, FENCED, write="checkpoint") > 0
    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    assert await everything(cluster, client) == before
    bills = {call.id: call.billed for call in slow_stub.calls}
    paid = await cluster.rows(
        "SELECT * FROM usage_records WHERE attempt = 1 AND ending = 'finished'"
    )
    assert {row["request_id"] for row in paid} & {call.id for call in unread}
    for row in paid:
        bill = bills[row["request_id"]]
        assert (row["input_tokens"], row["output_tokens"]) == (bill.input, bill.output)


def being_written(stub: ModelStub) -> list[StubCall]:
    """The calls whose answer has begun."""
    return [call for call in stub.calls if call.ended is None and call.billed.output > 0]


async def test_whatever_it_was_about_to_write_is_fenced(
    cluster: Cluster, client: "redis.asyncio.Redis"
) -> None:
    cluster.environment |= {"USA_CONCURRENCY": "2", "USA_MAX_CRASHES": "100"}
    await cluster.start_api()
    # Awake, it appends no event and begins no call as soon as its lease is in doubt, so that
    # it tries these only if it falls asleep between that look and the write.
    opening, paying, ending, telling, acknowledging = zombies = [
        cluster.start_victim("worker", Failpoint(f"{edge}.before", "stop"))
        for edge in (
            "postgres.open_calls_if_current",
            "postgres.close_calls",
            "postgres.record_if_current",
            "redis.append_events",
            "redis.ack_if_owner",
        )
    ]
    jobs = await feed(cluster, zombies, lambda: submit(cluster, 4, steps=2, stepSeconds=0.2))
    await eventually(lambda: all(each.is_frozen for each in zombies), what="all are frozen")
    await cluster.start_workers(HEIRS, USA_CONCURRENCY="10")
    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    before = await everything(cluster, client)

    async with overheard(client) as commands:
        await wake(zombies)

    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    assert await everything(cluster, client) == before
    assert await counted(opening, FENCED, write="open_call") > 0
    assert await counted(paying, FENCED, write="checkpoint") > 0
    assert await counted(ending, FENCED, write="ending") > 0
    assert await counted(telling, FENCED, write="events") > 0
    assert await counted(telling, "usa_events_appended_total", verdict="fenced") > 0
    name = acknowledging.logged("worker_started")[0]["worker"]
    asked = f"EVALSHA {scripts.ack_if_owner.sha} 1 {keys.JOBS} {keys.GROUP} {name} "
    assert [each for each in commands if each.startswith(asked)]
    names = {each.split()[0] for each in commands}
    assert "XPENDING" in names  # what scripts do is heard as well
    assert names.isdisjoint({"XACK", "XDEL", "XCLAIM"})


@asynccontextmanager
async def overheard(client: "redis.asyncio.Redis") -> AsyncIterator[list[str]]:
    """Every command that Redis carries out, those of its scripts included."""
    heard: list[str] = []

    async def listen() -> None:
        async for command in monitor.listen():
            heard.append(command["command"])  # noqa: PERF401 - it never ends

    async with client.monitor() as monitor:
        listening = asyncio.create_task(listen())
        try:
            yield heard
        finally:
            listening.cancel()
            await asyncio.wait({listening})
