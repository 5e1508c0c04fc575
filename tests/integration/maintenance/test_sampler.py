"""One process at a time tells what the queue holds, and nobody tells what is not so any more."""

from collections.abc import AsyncIterator

import pytest

from service.domain.errors import Unavailable
from service.maintenance.sampler import Sampler
from service.postgres import turns
from service.postgres.sampling import PostgresSampleStore
from service.streams.connection import once_client
from service.streams.queue_counts import RedisStreamCounter
from service.telemetry.metrics import REGISTRY
from tests.fixtures.database import Stores, open_stores
from tests.fixtures.waiting import eventually
from tests.integration.maintenance.upkeep import Upkeep
from tests.integration.postgres.steps import accepted, claimed, retried

LONG = 3600.0
NOWHERE = "redis://127.0.0.1:1/0"


def a_sampler(upkeep: Upkeep, stores: Stores | None = None, redis: str | None = None) -> Sampler:
    """A sampler as one process runs it."""
    return Sampler(
        PostgresSampleStore((stores or upkeep.stores).database),
        RedisStreamCounter(upkeep.streams.client(once_client, "sampler", url=redis)),
        interval=LONG,
    )


@pytest.fixture
async def sampler(upkeep: Upkeep) -> AsyncIterator[Sampler]:
    """One that exports nothing any more after the test."""
    sampler = a_sampler(upkeep)
    yield sampler
    await sampler.leave()


def shown(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def jobs() -> dict[str, float | None]:
    states = ("queued", "waiting", "processing")
    return {state: shown("usa_queue_jobs", state=state) for state in states}


NOTHING = {"queued": None, "waiting": None, "processing": None}


async def test_the_rows_are_counted_by_state(sampler: Sampler, upkeep: Upkeep) -> None:
    stores = upkeep.stores
    for _ in range(3):
        await accepted(stores)
    await retried(stores, 600.0)
    await claimed(stores)
    silent = await claimed(stores)
    await upkeep.observer.run(
        "UPDATE jobs SET lease_until = now() - interval '1 minute' WHERE id = $1",
        silent.fence.job_id,
    )
    dead = await claimed(stores)
    await upkeep.observer.run(
        "UPDATE jobs SET status = 'failed', attempt = attempt + 1, error = '{}', completed_at ="
        " now(), final_event_id = '2-1', reserved_tokens = 0 WHERE id = $1",
        dead.fence.job_id,
    )

    await sampler.run_once()

    assert jobs() == {"queued": 3, "waiting": 1, "processing": 2}
    assert shown("usa_queue_leases_expired") == 1
    assert shown("usa_dead_letters") == 1


async def test_ages_are_since_due_since_submitted_and_since_started(
    sampler: Sampler, upkeep: Upkeep
) -> None:
    await accepted(upkeep.stores)
    await retried(upkeep.stores, 600.0)
    await claimed(upkeep.stores)
    await upkeep.observer.run(
        "UPDATE jobs SET created_at = now() - interval '3000 s',"
        " available_at = CASE WHEN available_at > now() THEN available_at"
        " ELSE now() - interval '2000 s' END,"
        " started_at = now() - interval '1000 s'"
    )

    await sampler.run_once()

    ages = [
        shown("usa_queue_oldest_age_seconds", state=state)
        for state in ("queued", "waiting", "processing")
    ]
    assert [age and age // 1000 for age in ages] == [2, 3, 1]


async def test_an_empty_queue_is_shown_as_empty(sampler: Sampler) -> None:
    await sampler.run_once()

    assert jobs() == {"queued": 0, "waiting": 0, "processing": 0}
    assert shown("usa_queue_oldest_age_seconds", state="queued") == 0
    assert shown("usa_queue_paused_seconds") == 0
    assert shown("usa_stream_entries", stream="jobs") == 0


async def test_a_pause_is_shown_with_its_age(sampler: Sampler, upkeep: Upkeep) -> None:
    await upkeep.stores.queue.pause("ann", None)
    await upkeep.observer.run("UPDATE queue_control SET paused_at = now() - interval '1 hour'")

    await sampler.run_once()

    paused = shown("usa_queue_paused_seconds")
    assert paused is not None
    assert paused >= 3600


async def test_the_streams_are_shown_by_name(sampler: Sampler, upkeep: Upkeep) -> None:
    await upkeep.in_stream(count=2)
    await upkeep.streams.add(attempt=1)
    await upkeep.streams.consumer().read_new(1)

    await sampler.run_once()

    entries = {name: shown("usa_stream_entries", stream=name) for name in ("jobs", "again")}
    pending = {name: shown("usa_stream_pending", stream=name) for name in ("jobs", "again")}
    assert entries == {"jobs": 2, "again": 1}
    assert pending == {"jobs": 0, "again": 1}
    assert shown("usa_stream_lag", stream="jobs") == 2


async def test_of_two_processes_one_samples_until_it_leaves(
    sampler: Sampler, upkeep: Upkeep, migrated_url: str
) -> None:
    async with open_stores(migrated_url) as stores:
        other = a_sampler(upkeep, stores)
        await sampler.run_once()
        await accepted(upkeep.stores)
        await other.run_once()
        while_the_first_samples = jobs()
        await sampler.leave()
        between = jobs()
        await other.run_once()
        after = jobs()
        await other.leave()

    assert while_the_first_samples["queued"] == 0
    assert between == NOTHING
    assert after["queued"] == 1


async def test_a_process_that_loses_the_lock_exports_nothing_and_may_win_it_again(
    sampler: Sampler, upkeep: Upkeep
) -> None:
    await upkeep.in_stream()
    await sampler.run_once()
    await upkeep.observer.run(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )

    with pytest.raises(Unavailable, match="Postgres"):
        await sampler.run_once()
    lost = jobs()
    lost_entries = shown("usa_stream_entries", stream="jobs")
    await sampler.run_once()

    assert lost == NOTHING
    assert lost_entries is None
    assert jobs()["queued"] == 1


async def test_a_process_that_hangs_loses_the_lock_to_another(
    sampler: Sampler, upkeep: Upkeep, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_LONGEST_ROUND", 0.1)
    await sampler.run_once()
    monkeypatch.undo()
    await accepted(upkeep.stores)

    async with open_stores(migrated_url) as stores:
        other = a_sampler(upkeep, stores)

        async def takes_over() -> bool:
            await other.run_once()
            return jobs()["queued"] == 1

        await eventually(takes_over, what="the other one samples")
        await other.leave()
    with pytest.raises(Unavailable, match="Postgres"):
        await sampler.run_once()


async def test_no_table_is_locked_by_who_samples(sampler: Sampler, upkeep: Upkeep) -> None:
    await sampler.run_once()

    await upkeep.observer.run(
        "DO $$ BEGIN LOCK TABLE jobs, queue_control IN ACCESS EXCLUSIVE MODE NOWAIT; END $$"
    )

    assert jobs()["queued"] == 0


async def test_a_term_ends_so_that_no_transaction_stays_open_for_ever(
    sampler: Sampler, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.maintenance.sampler._LONGEST_TERM", 0.0)
    begun = (
        "SELECT xact_start FROM pg_stat_activity JOIN pg_locks USING (pid)"
        " WHERE locktype = 'advisory' AND datname = current_database()"
    )

    await sampler.run_once()
    first = await upkeep.observer.value(begun)
    await sampler.run_once()
    second = await upkeep.observer.value(begun)

    assert first != second
    assert jobs()["queued"] == 0


async def test_without_redis_the_rows_are_still_shown_and_no_stream_is(upkeep: Upkeep) -> None:
    await upkeep.in_stream()
    sampler = a_sampler(upkeep)
    await sampler.run_once()
    before = shown("usa_stream_entries", stream="jobs")
    await sampler.leave()
    cut_off = a_sampler(upkeep, redis=NOWHERE)

    with pytest.raises(Unavailable, match="Redis"):
        await cut_off.run_once()

    assert before == 1
    assert jobs()["queued"] == 1
    assert shown("usa_stream_entries", stream="jobs") is None
    await cut_off.leave()
    assert jobs() == NOTHING
