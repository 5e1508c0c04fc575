"""Accepting jobs: one commit, one job per idempotency key, and who may ring at once."""

import asyncio

import pytest

from service.domain.errors import IdempotencyConflict
from service.domain.job import JobStatus
from service.ports.jobs import Accepted
from service.postgres.job_store import PostgresJobStore
from tests.fixtures.database import USER_IN_STREAM, Observer, Stores
from tests.fixtures.factories import a_delivery, a_new_job, an_owner, terms


async def test_an_accepted_job_is_the_row_that_was_submitted(stores: Stores) -> None:
    new = a_new_job(options={"verify": False, "nested": {"é": [1, None]}}, deadline=60.0)

    accepted = await stores.jobs.accept(new)

    assert accepted.is_new
    assert accepted.ring_now
    assert accepted.queue_position == 0
    job = await stores.attempts.get(new.id)
    assert job == accepted.job
    assert (job.status, job.attempt, job.owner) == (JobStatus.QUEUED, 0, new.owner)
    assert (job.story, job.options, job.iterations) == (new.story, new.options, new.iterations)
    assert 59.9 < (job.deadline_at - job.created_at).total_seconds() < 60.1


async def test_accepting_reserves_tokens_and_counts_the_request_of_the_day(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()

    for _ in range(2):
        await stores.jobs.accept(a_new_job(owner, reserved=700))

    reserved = await observer.row("SELECT sum(reserved_tokens), min(reserved_on) FROM jobs")
    counted = await observer.row("SELECT * FROM daily_usage WHERE user_id = $1", owner.user_id)
    assert reserved["sum"] == 1400
    assert (counted["request_count"], counted["day"]) == (2, reserved["min"])


async def test_accepting_is_one_statement_its_queue_position_included(
    stores: Stores, observer: Observer
) -> None:
    await stores.database.ping()
    async with stores.database.connection() as connection:
        pid = await connection.fetchval("SELECT pg_backend_pid()")

    await stores.jobs.accept(a_new_job())

    # A second statement could fail after the first one has committed.
    last_query = await observer.value("SELECT query FROM pg_stat_activity WHERE pid = $1", pid)
    assert str(last_query).startswith("-- Accept jobs")


async def test_requests_that_come_together_share_a_few_transactions(
    stores: Stores, observer: Observer
) -> None:
    await asyncio.gather(*(stores.jobs.accept(a_new_job()) for _ in range(20)))

    assert await observer.value("SELECT count(*) FROM jobs") == 20
    assert int(str(await observer.value("SELECT count(DISTINCT xmin::text) FROM jobs"))) <= 5


async def test_a_submission_that_cannot_be_stored_fails_alone(
    stores: Stores, observer: Observer
) -> None:
    news = [a_new_job(story="bad \x00" if number == 3 else "good") for number in range(8)]

    answers = await asyncio.gather(
        *(stores.jobs.accept(new) for new in news), return_exceptions=True
    )

    assert [type(answer) is Accepted for answer in answers] == [n != 3 for n in range(8)]
    assert await observer.value("SELECT count(*) FROM jobs") == 7


async def test_the_queue_position_counts_the_jobs_ahead(stores: Stores) -> None:
    positions = [(await stores.jobs.accept(a_new_job())).queue_position for _ in range(3)]

    assert positions == [0, 1, 2]


async def test_the_queue_position_is_not_counted_beyond_a_thousand(
    stores: Stores, observer: Observer
) -> None:
    await stores.jobs.accept(a_new_job())
    await observer.run(_CLONE, 999)
    at_the_limit = await stores.jobs.accept(a_new_job())
    beyond = await stores.jobs.accept(a_new_job())

    assert at_the_limit.queue_position == 1000
    assert beyond.queue_position is None


async def test_a_user_with_enough_undelivered_entries_leaves_ringing_to_the_relay(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()

    rings = [(await stores.jobs.accept(a_new_job(owner))).ring_now for _ in range(12)]
    other = await stores.jobs.accept(a_new_job())

    assert rings == [True] * USER_IN_STREAM + [False] * 2
    assert other.ring_now
    due = "SELECT count(*) FROM jobs WHERE relay_after <= clock_timestamp()"
    assert await observer.value(due) == 2


async def test_without_a_limit_every_job_may_ring_at_once(stores: Stores) -> None:
    unlimited = PostgresJobStore(
        stores.database, stores.attempts, stores.background, user_in_stream=0
    )
    owner = an_owner()

    rings = [(await unlimited.accept(a_new_job(owner))).ring_now for _ in range(12)]

    assert rings == [True] * 12


async def test_a_delivered_entry_makes_room_for_the_next(stores: Stores) -> None:
    owner = an_owner()
    accepted = [await stores.jobs.accept(a_new_job(owner)) for _ in range(USER_IN_STREAM)]

    await stores.attempts.claim([a_delivery(accepted[0].job.id)], terms())

    assert (await stores.jobs.accept(a_new_job(owner))).ring_now


async def test_the_same_key_and_body_give_the_same_job(stores: Stores, observer: Observer) -> None:
    owner = an_owner()
    first = await stores.jobs.accept(a_new_job(owner, key="k"))

    again = await stores.jobs.accept(a_new_job(owner, key="k"))

    assert not again.is_new
    assert not again.ring_now
    assert again.job == first.job
    assert await observer.value("SELECT count(*) FROM jobs") == 1
    assert await observer.value("SELECT request_count FROM daily_usage") == 1


async def test_the_same_key_with_another_body_is_a_conflict(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    await stores.jobs.accept(a_new_job(owner, key="k"))

    with pytest.raises(IdempotencyConflict):
        await stores.jobs.accept(a_new_job(owner, key="k", fingerprint=b"other"))

    assert await observer.value("SELECT count(*) FROM jobs") == 1


async def test_a_key_belongs_to_one_user_of_one_tenant(stores: Stores) -> None:
    owners = [an_owner("acme", "ann"), an_owner("acme", "bob"), an_owner("rival", "ann")]

    accepted = [await stores.jobs.accept(a_new_job(owner, key="k")) for owner in owners]

    assert all(each.is_new for each in accepted)


async def test_an_expired_key_may_be_used_again(stores: Stores, observer: Observer) -> None:
    owner = an_owner()
    first = await stores.jobs.accept(a_new_job(owner, key="k"))
    await observer.run("UPDATE idempotency_keys SET expires_at = clock_timestamp()")

    second = await stores.jobs.accept(a_new_job(owner, key="k", fingerprint=b"other"))
    again = await stores.jobs.accept(a_new_job(owner, key="k", fingerprint=b"other"))

    assert second.is_new
    assert second.job.id != first.job.id
    assert again.job.id == second.job.id


async def test_parallel_requests_with_one_key_make_one_job(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()

    accepted = await asyncio.gather(
        *(stores.jobs.accept(a_new_job(owner, key="k")) for _ in range(20))
    )

    assert sum(each.is_new for each in accepted) == 1
    assert len({each.job.id for each in accepted}) == 1
    assert await observer.value("SELECT count(*) FROM jobs") == 1
    assert await observer.value("SELECT sum(request_count) FROM daily_usage") == 1


async def test_a_request_waits_for_the_other_with_its_key_and_yields_to_its_commit(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    template = (await stores.jobs.accept(a_new_job())).job
    async with observer.transaction():
        await observer.run(_BIND, owner.tenant_id, owner.user_id, template.id)
        waiting = asyncio.ensure_future(stores.jobs.accept(a_new_job(owner, key="k")))
        await observer.somebody_waits_for_a_lock()

    accepted = await waiting

    assert not accepted.is_new
    assert accepted.job.id == template.id
    assert await observer.value("SELECT count(*) FROM jobs") == 1


async def test_a_request_takes_over_the_key_of_one_that_was_rolled_back(
    stores: Stores, observer: Observer
) -> None:
    owner = an_owner()
    template = (await stores.jobs.accept(a_new_job())).job
    rolled_back = observer.transaction()
    await rolled_back.start()
    await observer.run(_BIND, owner.tenant_id, owner.user_id, template.id)
    waiting = asyncio.ensure_future(stores.jobs.accept(a_new_job(owner, key="k")))
    await observer.somebody_waits_for_a_lock()

    await rolled_back.rollback()

    assert (await waiting).is_new


_BIND = """
INSERT INTO idempotency_keys (tenant_id, user_id, key, fingerprint, job_id)
VALUES ($1, $2, 'k', 'body', $3)
"""
_CLONE = """
INSERT INTO jobs (id, tenant_id, user_id, agent, mode, story, iterations, options, deadline_at)
SELECT gen_random_uuid(), tenant_id, 'clone', agent, mode, story, iterations, options, deadline_at
FROM jobs, generate_series(1, $1)
"""
