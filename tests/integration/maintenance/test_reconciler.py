"""The reconciler repairs what was lost, once, and leaves alone what only takes its time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from redis.exceptions import ResponseError

from service.domain.attempt import Claim, Fence, Verdict
from service.domain.errors import Unavailable
from service.domain.events import EventId
from service.domain.job import Job
from service.domain.transitions import Complete, HandBack
from service.embedded import EmbeddedValkey
from service.maintenance import reconciler as reconciler_module
from service.ports.upkeep import StreamState
from service.postgres.pool import Database
from service.streams import keys
from service.streams.pending import RedisPending
from tests.fixtures.database import Stores, open_stores
from tests.fixtures.factories import an_opening, terms
from tests.fixtures.streams import BOTH
from tests.integration.maintenance.upkeep import Upkeep
from tests.integration.postgres.steps import (
    LONG,
    accepted,
    claimed,
    completed,
    expire_leases,
    handed_back,
)


@pytest.fixture
def valkey(valkey_server: EmbeddedValkey) -> Iterator[EmbeddedValkey]:
    """Valkey, running again after the test."""
    yield valkey_server
    if not valkey_server.is_running:
        valkey_server.start()


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is full after two rows."""
    monkeypatch.setattr(reconciler_module, "_BATCH", 2)


async def run_by_a_worker(upkeep: Upkeep, count: int = 1) -> list[Claim]:
    """Jobs that a worker has read and claimed, through real entries."""
    await upkeep.in_stream(count=count)
    deliveries = await upkeep.streams.consumer().read_new(count)
    claims = await upkeep.stores.attempts.claim(deliveries, terms("one", lease=LONG))
    assert {claim.verdict for claim in claims} == {Verdict.CLAIMED}
    return claims


async def test_when_redis_has_lost_everything_every_queued_job_gets_a_new_entry(
    upkeep: Upkeep,
) -> None:
    fresh = await upkeep.in_stream(count=5)
    again = [await handed_back(upkeep.stores) for _ in range(3)]
    for fence in again:
        await upkeep.ring(fence)
    await upkeep.streams.commands.flushall()

    repaired = await upkeep.reconciler.run_once()

    assert repaired == 1 + 5 + 3
    assert await upkeep.is_relay_woken()
    await upkeep.let_pass(0.0)
    assert await upkeep.relay.run_once() == 8
    consumer = upkeep.streams.consumer()
    deliveries = [*await consumer.read_new(10), *await consumer.read_new(10)]
    assert [each.job_id for each in deliveries] == [
        *(fence.job_id for fence in again),
        *(job.id for job in fresh),
    ]
    assert await upkeep.reconciler.run_once() == 0


async def test_an_entry_lost_in_the_middle_is_found_when_the_group_has_read_past_it(
    upkeep: Upkeep,
) -> None:
    jobs = await upkeep.in_stream(count=3)
    lost = (await upkeep.entry_ids(jobs))[1]
    await upkeep.streams.commands.xdel(keys.JOBS, str(lost))

    await upkeep.streams.consumer().read_new(10)
    assert await upkeep.reconciler.run_once() == 1

    entries = await upkeep.entry_ids(jobs)
    assert entries[1] is None
    assert None not in (entries[0], entries[2])


async def test_an_entry_lost_at_the_end_is_found_at_once(upkeep: Upkeep) -> None:
    """As after a failover to a replica that had not got it yet."""
    jobs = await upkeep.in_stream(count=3)
    lost = (await upkeep.entry_ids(jobs))[2]
    await upkeep.streams.commands.xdel(keys.JOBS, str(lost))

    assert await upkeep.reconciler.run_once() == 1

    assert (await upkeep.entry_ids(jobs))[2] is None


async def test_the_only_entry_lost_is_found_at_once(upkeep: Upkeep) -> None:
    [job] = await upkeep.in_stream()
    await upkeep.streams.commands.xtrim(keys.JOBS, maxlen=0, approximate=False)

    assert await upkeep.reconciler.run_once() == 1

    assert await upkeep.entry_ids([job]) == [None]


async def test_an_entry_that_went_with_its_consumer_is_replaced(upkeep: Upkeep) -> None:
    [job] = await upkeep.in_stream()
    await upkeep.streams.consumer("doomed").read_new(1)
    assert await upkeep.reconciler.run_once() == 0
    assert await upkeep.streams.commands.xgroup_delconsumer(keys.JOBS, keys.GROUP, "doomed") == 1

    assert await upkeep.reconciler.run_once() == 1
    assert await upkeep.relay.run_once() == 1

    [delivery] = await upkeep.streams.consumer("next").read_new(1)
    assert delivery.job_id == job.id


@pytest.mark.parametrize("stream", BOTH)
async def test_an_entry_that_somebody_holds_is_left_alone(upkeep: Upkeep, stream: str) -> None:
    fences = [
        Fence((await accepted(upkeep.stores)).id, 0)
        if stream == keys.JOBS
        else await handed_back(upkeep.stores)
        for _ in range(2)
    ]
    entries = [await upkeep.ring(fence) for fence in fences]
    await upkeep.streams.consumer().read_new(1)

    assert await upkeep.reconciler.run_once() == 0

    rows = [await upkeep.row(fence.job_id) for fence in fences]
    assert [row["entry_id"] for row in rows] == [entry.entry_id for entry in entries]


async def test_a_lost_mark_costs_a_second_entry_and_nothing_else(upkeep: Upkeep) -> None:
    [job] = await upkeep.due()
    await upkeep.streams.entries.add_entry(job.id, 0, None)

    assert await upkeep.reconciler.run_once() == 0
    assert await upkeep.relay.run_once() == 1
    assert await upkeep.reconciler.run_once() == 0

    assert list((await upkeep.entries()).values()) == [job.id, job.id]


@pytest.mark.parametrize("how", ["added", "added and read"])
async def test_an_entry_added_while_the_reconciler_looks_is_not_taken_for_lost(
    upkeep: Upkeep, how: str
) -> None:
    jobs: list[Job] = []

    class Late(RedisPending):
        """Describes the stream a moment before an entry is added to it."""

        async def state(self, attempt: int) -> StreamState:
            state = await super().state(attempt)
            if attempt == 0:
                jobs.extend(await upkeep.in_stream())
                if how == "added and read":
                    await upkeep.streams.consumer().read_new(1)
            return state

    reconciler = upkeep.another_reconciler(pending=Late(upkeep.streams.commands))

    assert [await reconciler.run_once() for _ in range(3)] == [0, 0, 0]
    assert None not in await upkeep.entry_ids(jobs)


async def test_a_job_whose_worker_and_entry_are_gone_is_queued_again_and_counts_a_crash(
    upkeep: Upkeep,
) -> None:
    [claim] = await run_by_a_worker(upkeep)
    await upkeep.streams.commands.flushall()
    await upkeep.pending.ensure_streams()
    assert await upkeep.reconciler.run_once() == 0

    await expire_leases(upkeep.observer)
    assert await upkeep.reconciler.run_once() == 1

    row = await upkeep.row(claim.fence.job_id)
    assert (row["status"], row["attempt"], row["crash_count"]) == ("queued", 1, 1)
    assert await upkeep.is_relay_woken()
    assert await upkeep.relay.run_once() == 1
    [(_, fields)] = await upkeep.entries_of(keys.AGAIN)
    assert fields[b"job"].decode() == str(claim.fence.job_id)


async def test_a_job_whose_worker_is_gone_is_left_to_whoever_reclaims_its_entry(
    upkeep: Upkeep,
) -> None:
    [claim] = await run_by_a_worker(upkeep)
    await expire_leases(upkeep.observer)

    assert await upkeep.reconciler.run_once() == 0

    assert (await upkeep.row(claim.fence.job_id))["status"] == "processing"


async def test_a_worker_that_reaches_redis_and_not_postgres_loses_its_job_in_the_end(
    upkeep: Upkeep,
) -> None:
    """It renews its entry, so that nobody would ever reclaim it."""
    [claim] = await run_by_a_worker(upkeep)
    assert await upkeep.streams.leases().renew_if_owner([claim.delivery]) == 1

    await expire_leases(upkeep.observer, 110.0)
    assert await upkeep.reconciler.run_once() == 0
    await expire_leases(upkeep.observer, 130.0)
    assert await upkeep.reconciler.run_once() == 1
    assert await upkeep.relay.run_once() == 1

    [delivery] = await upkeep.streams.consumer("next").read_new(1)
    [next_claim] = await upkeep.stores.attempts.claim([delivery], terms("next", lease=LONG))
    late = await upkeep.stores.attempts.record_if_current(
        claim.fence, Complete({"ok": True}), EventId(1, 1)
    )
    assert next_claim.verdict is Verdict.CLAIMED
    assert not late.applied
    # Its entry is none that anybody needs, so it will be acknowledged.
    assert late.entry_id == delivery.entry_id != claim.delivery.entry_id


async def test_a_job_that_lost_too_many_workers_fails_and_says_so(upkeep: Upkeep) -> None:
    [claim] = await run_by_a_worker(upkeep)
    await upkeep.streams.commands.delete(keys.JOBS)
    await expire_leases(upkeep.observer)
    reconciler = upkeep.another_reconciler(max_crashes=1)

    # The lost stream is a repair, too.
    assert await reconciler.run_once() == 2
    row = await upkeep.row(claim.fence.job_id)
    assert (row["status"], row["final_event_id"]) == ("failed", "2-1")
    assert '"WORKER_LOST"' in row["error"]
    assert not await upkeep.is_relay_woken()

    await upkeep.let_pass(2.0)
    assert await reconciler.run_once() == 1
    assert await upkeep.event_ids(claim.fence.job_id) == ["2-1"]
    assert await reconciler.run_once() == 0


async def test_a_job_that_waited_past_its_deadline_fails_and_says_so(upkeep: Upkeep) -> None:
    [job] = await upkeep.in_stream()
    await upkeep.observer.run("UPDATE jobs SET deadline_at = clock_timestamp()")

    assert await upkeep.reconciler.run_once() == 1
    row = await upkeep.row(job)
    assert (row["status"], row["final_event_id"]) == ("failed", "1-1")
    assert '"DEADLINE_EXCEEDED"' in row["error"]

    await upkeep.let_pass(2.0)
    assert await upkeep.reconciler.run_once() == 1
    assert await upkeep.event_ids(job.id) == ["1-1"]


async def test_an_owed_event_is_appended_under_its_own_id_and_noted(upkeep: Upkeep) -> None:
    old, young = await completed(upkeep.stores), await completed(upkeep.stores)
    await upkeep.observer.run(
        "UPDATE jobs SET completed_at = completed_at - interval '2 seconds' WHERE id = $1",
        old.job_id,
    )

    assert await upkeep.reconciler.run_once() == 1

    assert await upkeep.event_ids(old.job_id) == ["1-3"]
    assert await upkeep.event_ids(young.job_id) == []
    assert not (await upkeep.row(old.job_id))["event_pending"]
    assert (await upkeep.row(young.job_id))["event_pending"]
    assert 0 < await upkeep.streams.commands.ttl(keys.events(old.job_id)) <= 60
    [frame] = await upkeep.events.read_after(old.job_id, EventId(0, 0), 10)
    assert (frame.type, b'"result":{"ok":true}' in frame.data) == ("complete", True)


async def test_an_event_that_is_there_already_is_not_told_again(upkeep: Upkeep) -> None:
    """As after a crash between appending it and noting that."""
    fence = await completed(upkeep.stores)
    await upkeep.let_pass(2.0)
    await upkeep.reconciler.run_once()
    await upkeep.observer.run("UPDATE jobs SET event_pending = true")

    assert await upkeep.reconciler.run_once() == 1

    assert await upkeep.event_ids(fence.job_id) == ["1-3"]
    assert not (await upkeep.row(fence.job_id))["event_pending"]


async def test_a_call_that_nobody_will_close_is_booked(upkeep: Upkeep) -> None:
    claim = await claimed(upkeep.stores)
    await upkeep.stores.ledger.open_call(an_opening(claim))
    await upkeep.stores.attempts.record_if_current(
        claim.fence, Complete({"ok": True}), EventId(1, 1)
    )
    await upkeep.stores.attempts.clear_event_pending(claim.fence.job_id, EventId(1, 1))

    assert await upkeep.reconciler.run_once() == 0
    await upkeep.let_pass(10.0)
    assert await upkeep.reconciler.run_once() == 1

    ending = await upkeep.observer.value("SELECT ending FROM usage_records")
    assert ending == "abandoned"


async def test_only_one_reconciler_works_at_a_time(upkeep: Upkeep, migrated_url: str) -> None:
    await completed(upkeep.stores)
    await upkeep.let_pass(2.0)
    async with open_stores(migrated_url) as other:
        async with other.upkeep.only_reconciler() as is_theirs:
            assert is_theirs
            assert await upkeep.reconciler.run_once() == 0

        assert await upkeep.reconciler.run_once() == 1


async def test_the_lock_of_a_reconciler_that_died_is_free_again(
    upkeep: Upkeep, migrated_url: str
) -> None:
    await completed(upkeep.stores)
    await upkeep.let_pass(2.0)
    holders = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    repaired: list[int] = []

    async def be_killed(other: Stores) -> None:
        async with other.upkeep.only_reconciler():
            assert await upkeep.observer.value(holders)
            repaired.append(await upkeep.reconciler.run_once())

    async with open_stores(migrated_url) as other:
        with pytest.raises(Unavailable):
            await be_killed(other)

    assert repaired == [1]


async def test_reconcilers_that_run_at_once_repair_everything_once(upkeep: Upkeep) -> None:
    fences = [await completed(upkeep.stores) for _ in range(5)]
    await upkeep.let_pass(2.0)

    repaired = await asyncio.gather(*(upkeep.another_reconciler().run_once() for _ in range(5)))

    assert sum(repaired) == 5
    for fence in fences:
        assert await upkeep.event_ids(fence.job_id) == ["1-3"]


async def test_a_deep_healthy_queue_is_left_alone_and_costs_next_to_nothing(
    upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upkeep.in_stream()
    await upkeep.observer.run(_BACKLOG, 1999)
    await _ring_for_all(upkeep)
    await upkeep.streams.consumer().read_new(3)
    before = await upkeep.observer.connection.fetch("SELECT id, xmin FROM jobs ORDER BY id")
    statements: list[str] = []
    fetch = Database.fetch

    async def noting(self: Database, name: str, *parameters: Any) -> Any:
        statements.append(name)
        return await fetch(self, name, *parameters)

    monkeypatch.setattr(Database, "fetch", noting)
    commands_before = await _commands(upkeep)

    async with asyncio.timeout(1.0):
        assert await upkeep.reconciler.run_once() == 0

    assert await _commands(upkeep) - commands_before < 30
    assert len(statements) == len(set(statements)) + 1 == 6
    after = await upkeep.observer.connection.fetch("SELECT id, xmin FROM jobs ORDER BY id")
    assert len(before) == 2000
    assert after == before


_BACKLOG = """
INSERT INTO jobs (id, tenant_id, user_id, agent, mode, story, iterations, options, deadline_at)
SELECT gen_random_uuid(), tenant_id, user_id, agent, mode, story, iterations, options, deadline_at
FROM jobs, generate_series(1, $1)
"""


async def _ring_for_all(upkeep: Upkeep) -> None:
    """Add and mark an entry for every job that has none."""
    rows = await upkeep.observer.connection.fetch("SELECT id FROM jobs WHERE entry_id IS NULL")
    fences = [Fence(row["id"], 0) for row in rows]
    entries = [await upkeep.streams.entries.add_entry(fence.job_id, 0, None) for fence in fences]
    await asyncio.gather(
        *(
            upkeep.stores.attempts.mark_entry(fence, entry.entry_id)
            for fence, entry in zip(fences, entries, strict=True)
        )
    )


async def _commands(upkeep: Upkeep) -> int:
    """How many commands Redis has run so far."""
    return int((await upkeep.streams.commands.info("stats"))["total_commands_processed"])


async def test_what_needs_only_postgres_is_done_while_redis_is_away(
    upkeep: Upkeep, valkey: EmbeddedValkey
) -> None:
    overdue = await accepted(upkeep.stores)
    claim = await claimed(upkeep.stores)
    await upkeep.stores.ledger.open_call(an_opening(claim))
    await upkeep.stores.attempts.record_if_current(
        claim.fence, Complete({"ok": True}), EventId(1, 1)
    )
    await upkeep.let_pass(10.0)
    await upkeep.observer.run(
        "UPDATE jobs SET deadline_at = clock_timestamp() WHERE id = $1", overdue.id
    )
    valkey.kill()

    with pytest.raises(Unavailable):
        await upkeep.reconciler.run_once()

    assert (await upkeep.row(overdue))["status"] == "failed"
    assert await upkeep.observer.value("SELECT ending FROM usage_records") == "abandoned"
    assert await upkeep.observer.value("SELECT count(*) FROM jobs WHERE event_pending") == 2
    valkey.start()
    await upkeep.let_pass(2.0)
    # The streams, and both events.
    assert await upkeep.reconciler.run_once() == 3


@pytest.mark.usefixtures("small_batches")
async def test_an_event_that_cannot_be_appended_hides_no_other(upkeep: Upkeep) -> None:
    poisoned = [await completed(upkeep.stores) for _ in range(5)]
    good = [await completed(upkeep.stores) for _ in range(3)]
    for fence in poisoned:
        await upkeep.streams.commands.set(keys.events(fence.job_id), "not a stream")
    await upkeep.let_pass(2.0)

    assert await upkeep.reconciler.run_once() == 3

    assert [await upkeep.event_ids(fence.job_id) for fence in good] == [["1-3"]] * 3
    for fence in poisoned:
        assert (await upkeep.row(fence.job_id))["event_pending"]
    await upkeep.streams.commands.delete(*(keys.events(fence.job_id) for fence in poisoned))
    assert await upkeep.reconciler.run_once() == 5


@pytest.mark.usefixtures("small_batches")
async def test_a_step_that_fails_keeps_no_other_from_its_work(upkeep: Upkeep) -> None:
    fence = await completed(upkeep.stores)
    await upkeep.let_pass(2.0)
    await upkeep.streams.commands.delete(keys.AGAIN)
    await upkeep.streams.commands.set(keys.AGAIN, "not a stream")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await upkeep.reconciler.run_once()

    assert await upkeep.event_ids(fence.job_id) == ["1-3"]


@pytest.mark.usefixtures("small_batches")
async def test_entries_that_are_held_hide_none_that_is_lost(upkeep: Upkeep) -> None:
    held = await upkeep.in_stream(count=5)
    lost = await upkeep.in_stream(count=3)
    await upkeep.streams.consumer("alive").read_new(5)
    await upkeep.streams.consumer("doomed").read_new(3)
    await upkeep.streams.commands.xgroup_delconsumer(keys.JOBS, keys.GROUP, "doomed")

    assert await upkeep.reconciler.run_once() == 3

    assert await upkeep.entry_ids(lost) == [None] * 3
    assert None not in await upkeep.entry_ids(held)


@pytest.mark.usefixtures("small_batches")
async def test_lost_workers_whose_entries_will_be_reclaimed_hide_none_whose_will_not(
    upkeep: Upkeep,
) -> None:
    to_be_reclaimed = await run_by_a_worker(upkeep, 5)
    lost = await run_by_a_worker(upkeep, 3)
    await upkeep.streams.consumer().acknowledge_if_owner([claim.delivery for claim in lost])
    await expire_leases(upkeep.observer)

    assert await upkeep.reconciler.run_once() == 3

    for claim in lost:
        assert (await upkeep.row(claim.fence.job_id))["status"] == "queued"
    for claim in to_be_reclaimed:
        assert (await upkeep.row(claim.fence.job_id))["status"] == "processing"


@pytest.mark.usefixtures("small_batches")
async def test_rounds_without_time_for_everything_go_on_where_the_last_one_stopped(
    upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler_module, "_LONGEST_ROUND", 0.0)
    held = await upkeep.in_stream(count=5)
    lost = await upkeep.in_stream(count=3)
    await upkeep.streams.consumer("alive").read_new(5)
    await upkeep.streams.consumer("doomed").read_new(3)
    await upkeep.streams.commands.xgroup_delconsumer(keys.JOBS, keys.GROUP, "doomed")

    repaired = [await upkeep.reconciler.run_once() for _ in range(4)]

    assert repaired == [0, 0, 1, 2]
    assert None not in await upkeep.entry_ids(held)
    assert await upkeep.entry_ids(lost) == [None] * 3


async def _hand_back(upkeep: Upkeep, claim: Claim) -> None:
    await upkeep.stores.attempts.record_if_current(claim.fence, HandBack(), None)


async def _cancel(upkeep: Upkeep, claim: Claim) -> None:
    await upkeep.stores.jobs.cancel_owned(claim.fence.job_id, "acme", None)


async def _renew(upkeep: Upkeep, claim: Claim) -> None:
    assert await upkeep.stores.leases.renew("one", [claim.fence], LONG)


async def _complete(upkeep: Upkeep, claim: Claim) -> None:
    await upkeep.stores.attempts.record_if_current(
        claim.fence, Complete({"ok": True}), EventId(1, 1)
    )


@pytest.mark.parametrize("moves_on", [_hand_back, _cancel, _renew, _complete])
async def test_a_job_that_moves_on_while_the_reconciler_looks_is_left_alone(
    upkeep: Upkeep, moves_on: Callable[[Upkeep, Claim], Awaitable[None]]
) -> None:
    [claim] = await run_by_a_worker(upkeep)
    await upkeep.streams.commands.flushall()
    await upkeep.pending.ensure_streams()
    await expire_leases(upkeep.observer)

    class Overtaken(RedisPending):
        """Answers a moment after the job has moved on."""

        async def not_pending(self, entries: Sequence[tuple[int, str]]) -> list[bool]:
            answers = await super().not_pending(entries)
            await moves_on(upkeep, claim)
            return answers

    reconciler = upkeep.another_reconciler(pending=Overtaken(upkeep.streams.commands))

    assert await reconciler.run_once() == 0
    assert (await upkeep.row(claim.fence.job_id))["crash_count"] == 0
