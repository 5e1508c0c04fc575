"""The pruner deletes what nobody needs any more, and never what somebody still needs."""

from collections.abc import Iterator
from uuid import UUID

import asyncpg
import pytest

from service.domain.attempt import Fence
from service.domain.dead_letters import Redriven
from service.domain.errors import Unavailable
from service.domain.events import EventId
from service.domain.tiers import UNLIMITED
from service.domain.transitions import Fail
from service.embedded import EmbeddedValkey
from service.maintenance import pruner as pruner_module
from service.maintenance.pruner import Pruner
from service.streams import keys
from service.streams.leftovers import RedisLeftovers
from service.telemetry.metrics import PRUNED
from tests.fixtures.database import Observer, Stores, open_stores
from tests.fixtures.factories import a_new_job, an_opening, an_owner
from tests.fixtures.streams import BOTH
from tests.integration.maintenance.upkeep import Upkeep
from tests.integration.postgres.steps import (
    accepted,
    assert_books_balance,
    claimed,
    completed,
    finish_a_call,
)

JOB_DAYS, LEDGER_DAYS = 30, 400


@pytest.fixture
def pruner(upkeep: Upkeep) -> Pruner:
    return a_pruner(upkeep, dead_after=3600.0)


@pytest.fixture
def valkey(valkey_server: EmbeddedValkey) -> Iterator[EmbeddedValkey]:
    """Valkey, running again after the test."""
    yield valkey_server
    if not valkey_server.is_running:
        valkey_server.start()


def a_pruner(upkeep: Upkeep, *, dead_after: float) -> Pruner:
    return Pruner(
        upkeep.stores.retention,
        RedisLeftovers(upkeep.streams.commands),
        job_days=JOB_DAYS,
        ledger_days=LEDGER_DAYS,
        dead_after=dead_after,
    )


async def age_end(observer: Observer, job_id: UUID, days: float) -> None:
    """As if the job had ended so long ago."""
    await observer.run(
        "UPDATE jobs SET completed_at = clock_timestamp() - make_interval(secs => $2)"
        " WHERE id = $1",
        job_id,
        days * 86_400,
    )


async def age_books(observer: Observer, days: int) -> None:
    """As if everything had been spent so long ago."""
    await observer.run(
        "UPDATE usage_records SET day = day - $1::integer,"
        " opened_at = opened_at - make_interval(days => $1)",
        days,
    )
    await observer.run("UPDATE daily_usage SET day = day - $1::integer", days)
    await observer.run("UPDATE jobs SET reserved_on = reserved_on - $1::integer", days)


async def count(observer: Observer, table: str) -> object:
    return await observer.value(f"SELECT count(*) FROM {table}")  # noqa: S608 - named by the test


async def remaining(observer: Observer) -> set[UUID]:
    return {row["id"] for row in await observer.connection.fetch("SELECT id FROM jobs")}


async def failed(stores: Stores) -> Fence:
    claim = await claimed(stores)
    final = EventId(claim.fence.attempt, 1)
    recorded = await stores.attempts.record_if_current(claim.fence, Fail("X", "no"), final)
    assert recorded.applied
    return claim.fence


async def test_a_job_goes_when_it_ended_long_ago_with_all_but_its_ledger(
    pruner: Pruner, stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await finish_a_call(stores, claim)
    await stores.jobs.cancel_owned(claim.fence.job_id, "acme", None)
    young = (await completed(stores)).job_id
    await age_end(observer, claim.fence.job_id, JOB_DAYS + 0.001)
    await age_end(observer, young, JOB_DAYS - 0.001)
    booked = PRUNED.labels(what="job")._value.get()

    assert await pruner.run_once() == 1

    assert await remaining(observer) == {young}
    assert await count(observer, "checkpoints") == 0
    totals = await stores.ledger.totals(claim.fence.job_id)
    assert (totals.calls, totals.usage.total) == (1, 120)
    assert PRUNED.labels(what="job")._value.get() == booked + 1
    assert await pruner.run_once() == 0


async def test_a_job_that_has_not_ended_is_never_deleted_whatever_its_age(
    pruner: Pruner, stores: Stores, observer: Observer
) -> None:
    queued, running = await accepted(stores), await claimed(stores)
    # Not even one that has ended before: a redrive leaves nothing of that, but if it did ...
    await observer.run(
        "UPDATE jobs SET created_at = created_at - interval '9 years',"
        " completed_at = clock_timestamp() - interval '9 years'"
    )
    assert await pruner.run_once() == 0
    assert await remaining(observer) == {queued.id, running.fence.job_id}


async def test_a_job_that_is_redriven_at_the_same_moment_stays(
    pruner: Pruner, stores: Stores, observer: Observer
) -> None:
    fence = await failed(stores)
    await age_end(observer, fence.job_id, JOB_DAYS + 1)

    async with observer.transaction():
        await observer.run("SELECT FROM jobs WHERE id = $1 FOR UPDATE", fence.job_id)
        assert await pruner.run_once() == 0

    redriven = await stores.dead_letters.redrive_owned(fence.job_id, "acme", None, UNLIMITED)
    assert isinstance(redriven, Redriven)
    assert await pruner.run_once() == 0
    assert await remaining(observer) == {fence.job_id}


async def test_a_call_left_open_by_a_deleted_job_is_booked_all_the_same(
    pruner: Pruner, upkeep: Upkeep, stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim, expected=70))
    await stores.jobs.cancel_owned(claim.fence.job_id, "acme", None)
    await age_end(observer, claim.fence.job_id, JOB_DAYS + 1)
    await age_books(observer, LEDGER_DAYS + 1)

    # The call keeps its row, and that its day, until it is closed.
    assert await pruner.run_once() == 1
    assert await count(observer, "usage_records") == 1
    assert await stores.upkeep.write_off_calls(10) == 1
    assert (await stores.ledger.totals(claim.fence.job_id)).usage.input == 70
    assert await pruner.run_once() == 2


async def test_keys_that_no_longer_bind_go_and_their_jobs_stay(
    pruner: Pruner, stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    for key in ("old", "new"):
        await stores.jobs.accept(a_new_job(owner, key=key))
    await observer.run("UPDATE idempotency_keys SET expires_at = now() WHERE key = 'old'")

    assert await pruner.run_once() == 1

    assert await observer.value("SELECT array_agg(key) FROM idempotency_keys") == ["new"]
    assert len(await remaining(observer)) == 2


async def test_a_day_of_the_ledger_goes_as_a_whole_after_four_hundred(
    pruner: Pruner, stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await finish_a_call(stores, claim, 1, step="a")
    await finish_a_call(stores, claim, 2, step="b")
    await observer.run("DELETE FROM jobs")
    await age_books(observer, LEDGER_DAYS)
    assert await pruner.run_once() == 0
    await age_books(observer, 1)

    assert await pruner.run_once() == 2 + 1

    assert await count(observer, "usage_records") == 0
    assert await count(observer, "daily_usage") == 0


async def test_the_ledger_of_a_job_that_is_still_there_stays_and_so_does_its_day(
    pruner: Pruner, stores: Stores, observer: Observer
) -> None:
    await finish_a_call(stores, await claimed(stores))
    await age_books(observer, LEDGER_DAYS + 100)

    assert await pruner.run_once() == 0

    await assert_books_balance(observer)
    assert await count(observer, "daily_usage") == 1


async def test_a_day_is_not_deleted_before_the_last_of_its_ledger(
    pruner: Pruner, stores: Stores, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruner_module, "_BATCH", 1)
    monkeypatch.setattr(pruner_module, "_LONGEST_ROUND", 0.0)
    claim = await claimed(stores)
    await finish_a_call(stores, claim, 1, step="a")
    await finish_a_call(stores, claim, 2, step="b")
    await observer.run("DELETE FROM jobs")
    await age_books(observer, LEDGER_DAYS + 1)

    assert [await pruner.run_once() for _ in range(3)] == [1, 2, 0]


async def test_a_backlog_goes_in_batches(
    pruner: Pruner, stores: Stores, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruner_module, "_BATCH", 2)
    for _ in range(5):
        await age_end(observer, (await completed(stores)).job_id, JOB_DAYS + 1)

    assert await pruner.run_once() == 5

    assert await remaining(observer) == set()


async def test_one_prunes_at_a_time_beside_one_that_repairs(
    pruner: Pruner, stores: Stores, observer: Observer, migrated_url: str
) -> None:
    await age_end(observer, (await completed(stores)).job_id, JOB_DAYS + 1)

    async with open_stores(migrated_url) as other:
        async with other.retention.only_pruner() as is_theirs:
            assert is_theirs
            assert await pruner.run_once() == 0
        async with other.upkeep.only_reconciler() as is_theirs:
            assert is_theirs
            assert await pruner.run_once() == 1


async def test_rows_are_deleted_even_while_redis_is_away(
    pruner: Pruner, stores: Stores, observer: Observer, valkey: EmbeddedValkey
) -> None:
    await age_end(observer, (await completed(stores)).job_id, JOB_DAYS + 1)
    valkey.stop()

    with pytest.raises(Unavailable, match="Redis"):
        await pruner.run_once()

    assert await remaining(observer) == set()


async def test_one_table_that_cannot_be_pruned_does_not_stop_the_others(
    pruner: Pruner, stores: Stores, observer: Observer
) -> None:
    await finish_a_call(stores, await claimed(stores))
    await observer.run("DELETE FROM jobs")
    await age_books(observer, LEDGER_DAYS + 1)
    await observer.run("ALTER TABLE idempotency_keys RENAME TO hidden")

    with pytest.raises(asyncpg.UndefinedTableError, match="idempotency_keys"):
        await pruner.run_once()

    assert await count(observer, "usage_records") == 0
    assert await count(observer, "daily_usage") == 0


async def test_a_job_whose_entry_was_orphaned_is_recovered_and_its_entry_deleted(
    pruner: Pruner, upkeep: Upkeep
) -> None:
    """As after an operator's XGROUP DELCONSUMER."""
    [job] = await upkeep.in_stream()
    await upkeep.streams.consumer("doomed").read_new(1)
    assert await pruner.run_once() == 0
    await upkeep.streams.commands.xgroup_delconsumer(keys.JOBS, keys.GROUP, "doomed")

    assert await pruner.run_once() == 1

    assert await upkeep.entries() == {}
    assert await upkeep.reconciler.run_once() == 1
    assert await upkeep.relay.run_once() == 1
    [delivery] = await upkeep.streams.consumer("next").read_new(1)
    assert delivery.job_id == job.id
    assert await pruner.run_once() == 0
    assert len(await upkeep.entries()) == 1


async def test_dead_consumers_go_and_those_with_entries_stay(upkeep: Upkeep) -> None:
    await upkeep.in_stream()
    await upkeep.streams.consumer("busy").read_new(1)
    for stream in BOTH:
        for name in ("busy", "idle"):
            await upkeep.streams.commands.xgroup_createconsumer(stream, keys.GROUP, name)

    assert await a_pruner(upkeep, dead_after=3600.0).run_once() == 0
    # From one stream each held nothing, from the other one of them did.
    assert await a_pruner(upkeep, dead_after=0.0).run_once() == 3

    consumers = await upkeep.streams.commands.xinfo_consumers(keys.JOBS, keys.GROUP)
    assert [each["name"] for each in consumers] == [b"busy"]
    assert list((await upkeep.streams.pending()).values()) == ["busy"]
