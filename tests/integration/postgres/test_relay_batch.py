"""What the relay takes: only what is due, fairly between users, and nothing twice."""

import asyncio
from collections import Counter

from service.domain.attempt import Fence
from service.domain.job import Owner
from service.ports.upkeep import DueJob
from service.postgres.statements import statement
from tests.fixtures.database import USER_IN_STREAM, Observer, Stores, open_stores
from tests.fixtures.factories import an_owner
from tests.integration.postgres.steps import accepted, claimed, handed_back, retried, row_of


async def make_due(observer: Observer) -> None:
    """The time in which others may add entries is over."""
    await observer.run(
        "UPDATE jobs SET relay_after = created_at - interval '1 minute' WHERE entry_id IS NULL"
    )


async def queue_up(stores: Stores, owner: Owner, count: int) -> list[DueJob]:
    """As many queued jobs, in the form in which the relay gets them."""
    jobs = [await accepted(stores, owner) for _ in range(count)]
    return [DueJob(Fence(job.id, job.attempt), job.trace_parent) for job in jobs]


async def test_a_job_is_left_to_its_own_process_for_three_seconds(
    stores: Stores, observer: Observer
) -> None:
    job = await accepted(stores)

    assert await stores.upkeep.take_relay_batch(USER_IN_STREAM, 10) == []
    await observer.run("UPDATE jobs SET relay_after = relay_after - interval '3 seconds'")
    taken = await stores.upkeep.take_relay_batch(USER_IN_STREAM, 10)

    assert taken == [DueJob(Fence(job.id, 0), None)]


async def test_a_taken_job_is_nobody_elses_for_five_seconds(
    stores: Stores, observer: Observer
) -> None:
    await accepted(stores)
    await make_due(observer)
    await stores.upkeep.take_relay_batch(USER_IN_STREAM, 10)

    again = await stores.upkeep.take_relay_batch(USER_IN_STREAM, 10)
    await observer.run("UPDATE jobs SET relay_after = relay_after - interval '5 seconds'")
    later = await stores.upkeep.take_relay_batch(USER_IN_STREAM, 10)

    assert again == []
    assert len(later) == 1


async def test_a_job_with_an_entry_or_a_worker_is_not_taken(
    stores: Stores, observer: Observer
) -> None:
    marked = await accepted(stores)
    await stores.attempts.mark_entry(Fence(marked.id, 0), "1-0")
    await claimed(stores)
    await observer.run("UPDATE jobs SET relay_after = created_at - interval '1 minute'")

    assert await stores.upkeep.take_relay_batch(USER_IN_STREAM, 10) == []


async def test_a_retry_is_taken_when_it_is_due_and_not_before(
    stores: Stores, observer: Observer
) -> None:
    later, now = await retried(stores, 60.0), await retried(stores, 0.0)

    taken = await stores.upkeep.take_relay_batch(USER_IN_STREAM, 10)

    assert [due.fence for due in taken] == [now]
    assert (await row_of(observer, later.job_id))["entry_id"] is None


async def test_a_handed_back_job_is_taken_when_its_worker_did_not_add_the_entry(
    stores: Stores, observer: Observer
) -> None:
    fence = await handed_back(stores)

    at_once = await stores.upkeep.take_relay_batch(USER_IN_STREAM, 10)
    await observer.run("UPDATE jobs SET relay_after = relay_after - interval '2 seconds'")
    after_two_seconds = await stores.upkeep.take_relay_batch(USER_IN_STREAM, 10)

    assert at_once == []
    assert [due.fence for due in after_two_seconds] == [fence]


async def test_a_user_never_has_more_undelivered_entries_than_allowed(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    jobs = await queue_up(stores, owner, 8)
    for number, due in enumerate(jobs[:2]):
        await stores.attempts.mark_entry(due.fence, f"{number}-0")
    await make_due(observer)

    first = await stores.upkeep.take_relay_batch(5, 100)
    # What was taken has no entry yet, but is about to: it counts.
    second = await stores.upkeep.take_relay_batch(5, 100)

    assert first == jobs[2:5]
    assert second == []


async def test_a_claim_makes_room_for_the_next_of_the_same_user(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    jobs = await queue_up(stores, owner, 4)
    await make_due(observer)
    first = await stores.upkeep.take_relay_batch(2, 100)

    await claimed(stores, first[0].fence.job_id)
    second = await stores.upkeep.take_relay_batch(2, 100)

    assert first == jobs[:2]
    assert second == jobs[2:3]


async def test_no_limit_means_no_limit(stores: Stores, observer: Observer) -> None:
    jobs = await queue_up(stores, an_owner(), 15)
    await make_due(observer)

    assert await stores.upkeep.take_relay_batch(0, 100) == jobs


async def test_users_take_turns_however_long_their_queues_are(
    stores: Stores, observer: Observer
) -> None:
    busy, modest, late = an_owner(), an_owner(), an_owner("rival")
    of_busy = await queue_up(stores, busy, 6)
    of_modest = await queue_up(stores, modest, 2)
    of_late = await queue_up(stores, late, 1)
    await make_due(observer)

    first = await stores.upkeep.take_relay_batch(USER_IN_STREAM, 4)
    second = await stores.upkeep.take_relay_batch(USER_IN_STREAM, 100)

    assert first == [of_busy[0], of_modest[0], of_late[0], of_busy[1]]
    assert second == [of_modest[1], *of_busy[2:]]


async def test_whoever_has_entries_already_waits_for_whoever_has_none(
    stores: Stores, observer: Observer
) -> None:
    served, waiting = an_owner(), an_owner()
    of_served = await queue_up(stores, served, 2)
    await stores.attempts.mark_entry(of_served[0].fence, "1-0")
    of_waiting = await queue_up(stores, waiting, 1)
    await make_due(observer)

    assert await stores.upkeep.take_relay_batch(USER_IN_STREAM, 1) == of_waiting


async def test_relays_that_run_at_once_share_the_jobs(
    stores: Stores, observer: Observer, migrated_url: str
) -> None:
    owners = [an_owner() for _ in range(10)]
    for owner in owners:
        await queue_up(stores, owner, 8)
    await make_due(observer)

    async def relay() -> list[DueJob]:
        async with open_stores(migrated_url) as own:
            taken: list[DueJob] = []
            while batch := await own.upkeep.take_relay_batch(5, 7):
                taken += batch
            return taken

    answers = await asyncio.gather(*(relay() for _ in range(4)))
    # One that met only locked rows gave up, and comes again a second later.
    rest = await stores.upkeep.take_relay_batch(5, 100)

    taken = Counter(due.fence for answer in [*answers, rest] for due in answer)
    assert set(taken.values()) == {1}
    per_user = await observer.connection.fetch(
        "SELECT user_id, count(*) FROM jobs WHERE relay_after > clock_timestamp() GROUP BY user_id"
    )
    assert [row["count"] for row in per_user] == [5] * 10


async def test_a_row_that_another_relay_holds_is_skipped_not_waited_for(
    stores: Stores, observer: Observer
) -> None:
    held, free = await accepted(stores), await accepted(stores)
    await make_due(observer)
    async with observer.transaction():
        await observer.run("SELECT FROM jobs WHERE id = $1 FOR UPDATE", held.id)

        async with asyncio.timeout(2):
            taken = await stores.upkeep.take_relay_batch(USER_IN_STREAM, 10)

    assert [due.fence.job_id for due in taken] == [free.id]


async def test_with_more_users_than_one_pass_visits_each_gets_a_turn_in_the_end(
    stores: Stores, observer: Observer
) -> None:
    owners = [an_owner() for _ in range(12)]
    for owner in owners:
        await queue_up(stores, owner, 1)
    await make_due(observer)

    # Those taken before still wait for their entry, so a pass that began anew would meet them.
    taken = [await stores.upkeep.take_relay_batch(1, 1) for _ in owners]

    assert len({batch[0].fence for batch in taken}) == 12


async def test_a_deep_backlog_costs_the_relay_no_more_than_a_short_one(
    stores: Stores, observer: Observer
) -> None:
    await queue_up(stores, an_owner(), 1)
    await observer.run(_BACKLOG, 20_000)
    await make_due(observer)
    await observer.run("ANALYZE jobs")
    await observer.run("SELECT pg_stat_force_next_flush()")
    before = await _rows_read(observer)

    async with stores.database.connection() as connection:
        taken = await connection.fetch(
            statement("take_relay_batch"), USER_IN_STREAM, 100, None, None
        )
        await connection.execute("SELECT pg_stat_force_next_flush()")

    assert len(taken) == USER_IN_STREAM
    assert await _rows_read(observer) - before < 200


async def _rows_read(observer: Observer) -> int:
    """How many rows of `jobs` have been fetched or scanned, whoever did it."""
    return int(
        await observer.connection.fetchval(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'jobs'"
        )
    )


_BACKLOG = """
INSERT INTO jobs (id, tenant_id, user_id, agent, mode, story, iterations, options, deadline_at)
SELECT gen_random_uuid(), tenant_id, user_id, agent, mode, story, iterations, options, deadline_at
FROM jobs, generate_series(1, $1)
"""
