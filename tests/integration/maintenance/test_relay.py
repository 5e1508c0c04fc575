"""The relay gives every queued job an entry, fairly, and loses none on the way."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import pytest

from service.domain.attempt import Delivery, Verdict
from service.domain.errors import Unavailable
from service.embedded import EmbeddedValkey
from service.postgres.pool import Database
from service.streams import keys
from service.streams.connection import once_client
from service.streams.job_stream import RedisEntryWriter
from tests.fixtures.database import open_stores
from tests.fixtures.factories import an_owner, terms
from tests.fixtures.proxy import Proxy, redis_proxy_to
from tests.fixtures.waiting import eventually
from tests.integration.maintenance.upkeep import Upkeep
from tests.integration.postgres.steps import LONG, claimed, retried, seconds_between


@pytest.fixture
def valkey(valkey_server: EmbeddedValkey) -> Iterator[EmbeddedValkey]:
    """Valkey, running again after the test."""
    yield valkey_server
    if not valkey_server.is_running:
        valkey_server.start()


@pytest.fixture
async def proxied(upkeep: Upkeep) -> AsyncIterator[tuple[Proxy, RedisEntryWriter]]:
    """A writer of entries, and the network between it and Redis."""
    async with redis_proxy_to(upkeep.streams.url) as (proxy, url):
        yield proxy, RedisEntryWriter(upkeep.streams.client(once_client, "proxied", url=url))


async def test_a_due_job_gets_an_entry_and_its_row_names_it(upkeep: Upkeep) -> None:
    jobs = await upkeep.due(count=3)

    assert await upkeep.relay.run_once() == 3

    rang = await upkeep.entries()
    assert list(rang.values()) == [job.id for job in jobs]
    assert await upkeep.entry_ids(jobs) == list(rang)
    assert await upkeep.relay.run_once() == 0


async def test_an_entry_is_only_a_doorbell(upkeep: Upkeep) -> None:
    [job] = await upkeep.due()
    await upkeep.observer.run("UPDATE jobs SET trace_parent = '00-ab-cd-01'")

    await upkeep.relay.run_once()

    [(_, fields)] = await upkeep.entries_of(keys.JOBS)
    assert fields == {b"job": str(job.id).encode(), b"trace": b"00-ab-cd-01"}


async def test_a_retry_rings_when_it_is_due_and_before_all_that_never_started(
    upkeep: Upkeep,
) -> None:
    later, now = await retried(upkeep.stores, 60.0), await retried(upkeep.stores, 0.0)

    assert await upkeep.relay.run_once() == 1
    assert list((await upkeep.entries()).values()) == [now.job_id]
    await upkeep.let_pass(60.0)
    assert await upkeep.relay.run_once() == 1

    assert await upkeep.entries_of(keys.JOBS) == []
    assert list((await upkeep.entries()).values()) == [now.job_id, later.job_id]


async def test_one_users_crowd_is_bounded_and_stands_in_nobodys_way(upkeep: Upkeep) -> None:
    busy, modest = an_owner(), an_owner()
    crowd = await upkeep.due(busy, 8)
    [single] = await upkeep.due(modest)
    relay = upkeep.another_relay(user_in_stream=3)

    assert await relay.run_once() == 4
    assert await relay.run_once() == 0
    assert set((await upkeep.entries()).values()) == {single.id, *(job.id for job in crowd[:3])}

    await claimed(upkeep.stores, crowd[0].id)
    assert await relay.run_once() == 1
    assert list((await upkeep.entries()).values())[-1] == crowd[3].id


async def test_many_due_jobs_are_relayed_in_one_round_of_several_batches(
    upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = [an_owner() for _ in range(26)]
    for owner in owners:
        await upkeep.due(owner, 10)
    statements: list[str] = []
    fetch = Database.fetch

    async def noting(self: Database, name: str, *parameters: Any) -> Any:
        statements.append(name)
        return await fetch(self, name, *parameters)

    monkeypatch.setattr(Database, "fetch", noting)

    assert await upkeep.relay.run_once() == 260

    counts = Counter(statements)
    assert counts["take_relay_batch"] == 3
    # Marks become ready together and share statements.
    assert counts["mark_entries"] <= 9
    assert await upkeep.observer.value("SELECT count(*) FROM jobs WHERE entry_id IS NULL") == 0
    assert len(set((await upkeep.entries()).values())) == 260


async def test_without_redis_nothing_is_marked_and_all_is_due_again_in_five_seconds(
    upkeep: Upkeep, valkey: EmbeddedValkey
) -> None:
    jobs = await upkeep.due(count=3)
    valkey.kill()

    with pytest.raises(Unavailable):
        await upkeep.relay.run_once()

    assert await upkeep.entry_ids(jobs) == [None] * 3
    now = await upkeep.observer.value("SELECT clock_timestamp()")
    for job in jobs:
        assert 3.0 < seconds_between(now, (await upkeep.row(job))["relay_after"]) <= 5.0
    valkey.start()
    assert await upkeep.relay.run_once() == 0
    await upkeep.let_pass(5.0)
    assert await upkeep.relay.run_once() == 3
    assert list((await upkeep.entries()).values()) == [job.id for job in jobs]


async def test_what_was_added_before_redis_went_away_is_marked(
    upkeep: Upkeep, proxied: tuple[Proxy, RedisEntryWriter]
) -> None:
    proxy, writer = proxied
    jobs = await upkeep.due(count=3)

    class CutOff:
        """Loses its network after one entry."""

        async def add_entry(self, *job: Any) -> Delivery:
            entry = await writer.add_entry(*job)
            proxy.lose_next_answer()
            return entry

    with pytest.raises(Unavailable):
        await upkeep.another_relay(entries=CutOff()).run_once()

    first, second, third = await upkeep.entry_ids(jobs)
    assert first is not None
    # Redis took the second one, too, but nobody knows.
    assert (second, third) == (None, None)
    assert list((await upkeep.entries()).values()) == [job.id for job in jobs[:2]]


async def test_a_second_doorbell_has_no_effect(upkeep: Upkeep) -> None:
    """As after a crash between adding an entry and marking it."""
    [job] = await upkeep.due()
    unmarked = await upkeep.streams.entries.add_entry(job.id, 0, None)

    assert await upkeep.relay.run_once() == 1
    consumer = upkeep.streams.consumer()
    deliveries = await consumer.read_new(10)
    claims = await upkeep.stores.attempts.claim(deliveries, terms(lease=LONG))
    later = await upkeep.stores.attempts.claim(deliveries[1:], terms("worker-2", lease=LONG))

    assert [each.entry_id for each in deliveries] == [
        unmarked.entry_id,
        *(entry for entry in await upkeep.entries() if entry != unmarked.entry_id),
    ]
    assert [claim.verdict for claim in claims] == [
        Verdict.CLAIMED,
        Verdict.LEASED_THROUGH_ANOTHER_ENTRY,
    ]
    assert [claim.verdict for claim in later] == [Verdict.LEASED_THROUGH_ANOTHER_ENTRY]
    row = await upkeep.row(job)
    assert (row["attempt"], row["entry_id"]) == (1, unmarked.entry_id)


async def test_a_mark_that_comes_too_late_says_nothing_about_the_next_attempt(
    upkeep: Upkeep,
) -> None:
    [job] = await upkeep.due()

    class Overtaken:
        """Entries are delivered before they are marked."""

        async def add_entry(self, job_id: UUID, attempt: int, trace: str | None) -> Delivery:
            entry = await upkeep.streams.entries.add_entry(job_id, attempt, trace)
            await claimed(upkeep.stores, job_id)
            return entry

    await upkeep.another_relay(entries=Overtaken()).run_once()

    row = await upkeep.row(job)
    assert (row["status"], row["attempt"]) == ("processing", 1)
    assert row["entry_id"] not in await upkeep.entries()


async def test_relays_that_run_at_once_give_every_job_one_entry(
    upkeep: Upkeep, migrated_url: str
) -> None:
    jobs = [job for _ in range(12) for job in await upkeep.due(an_owner(), 10)]
    async with open_stores(migrated_url) as one, open_stores(migrated_url) as other:
        added = await asyncio.gather(
            *(upkeep.another_relay(stores).run_once() for stores in (one, other, upkeep.stores))
        )
    # One that met only locked rows gave up, and comes again a second later.
    added.append(await upkeep.relay.run_once())

    assert sum(added) == len(jobs)
    assert Counter((await upkeep.entries()).values()) == {job.id: 1 for job in jobs}


async def test_a_relay_that_is_cut_off_has_marked_what_it_added(
    upkeep: Upkeep, proxied: tuple[Proxy, RedisEntryWriter]
) -> None:
    proxy, writer = proxied
    jobs = await upkeep.due(count=5)
    proxy.delay(0.02)
    relaying = asyncio.create_task(upkeep.another_relay(entries=writer).run_once())

    async def three_are_there() -> bool:
        return len(await upkeep.entries()) >= 3

    await eventually(three_are_there, what="three entries")
    relaying.cancel()
    await asyncio.wait({relaying})

    marked = [entry_id for entry_id in await upkeep.entry_ids(jobs) if entry_id]
    assert relaying.cancelled()
    assert len(marked) >= len(await upkeep.entries()) - 1 >= 2


async def test_a_job_cancelled_while_its_entry_is_added_stays_cancelled(upkeep: Upkeep) -> None:
    [job] = await upkeep.due()

    class Crossed:
        """Jobs are cancelled while their entries are on their way."""

        async def add_entry(self, job_id: UUID, attempt: int, trace: str | None) -> Delivery:
            await upkeep.stores.jobs.cancel_owned(job_id, job.owner.tenant_id, None)
            return await upkeep.streams.entries.add_entry(job_id, attempt, trace)

    await upkeep.another_relay(entries=Crossed()).run_once()
    [delivery] = await upkeep.streams.consumer().read_new(1)
    [claim] = await upkeep.stores.attempts.claim([delivery], terms())

    assert claim.verdict is Verdict.TERMINAL
    row = await upkeep.row(job)
    assert (row["status"], row["attempt"], row["entry_id"]) == ("cancelled", 1, None)
