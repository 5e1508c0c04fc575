"""A queue that was empty when Postgres last counted it, and is deep now, is as cheap as another."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from service.postgres.pool import Database
from tests.fixtures.database import USER_IN_STREAM, Observer, Stores, open_stores
from tests.fixtures.factories import a_new_job, an_owner
from tests.integration.postgres.steps import accepted

_QUEUED = 20_000
_USERS = 400
# A pass of the relay looks at ten jobs each of two hundred users; an accepted job is told how many
# are ahead of it, up to a thousand.
_FEW = 3_000

Act = Callable[[Stores], Awaitable[object]]


@pytest.fixture
async def surprised(migrated_url: str, observer: Observer) -> AsyncIterator[Stores]:
    """Stores with one connection, on a table whose statistics know of no queued job."""
    async with open_stores(migrated_url, Database(migrated_url, name="test", size=1)) as stores:
        await accepted(stores)
        await observer.run("ALTER TABLE jobs SET (autovacuum_enabled = off)")
        await observer.run(_ENDED, 5_000)
        await observer.run("DELETE FROM jobs WHERE status = 'queued'")
        await observer.run("VACUUM ANALYZE jobs")
        await observer.run(_BACKLOG, _QUEUED, _USERS)
        yield stores


async def relay(stores: Stores) -> object:
    return await stores.upkeep.take_relay_batch(USER_IN_STREAM, 100)


async def accept(stores: Stores) -> object:
    return await stores.jobs.accept(a_new_job(an_owner()))


async def redrive(stores: Stores) -> object:
    return await stores.dead_letters.redrive_code("MODEL_UNAVAILABLE", 100)


async def mark(stores: Stores) -> object:
    [due, *_] = await stores.upkeep.take_relay_batch(USER_IN_STREAM, 1)
    await stores.attempts.mark_entry(due.fence, "1-0")
    return due


@pytest.mark.parametrize("act", [relay, accept, redrive, mark], ids=lambda act: act.__name__)
async def test_it_costs_no_more_than_what_is_taken_of_it(
    surprised: Stores, observer: Observer, act: Act
) -> None:
    before = await _rows_read(observer)

    assert await act(surprised)

    async with surprised.database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
    assert await _rows_read(observer) - before < _FEW


async def _rows_read(observer: Observer) -> int:
    """How many rows of `jobs` have been fetched or scanned, whoever did it."""
    await observer.run("SELECT pg_stat_force_next_flush()")
    read = await observer.value(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'jobs'"
    )
    assert isinstance(read, int)
    return read


_ENDED = """
INSERT INTO jobs (
  id, tenant_id, user_id, agent, mode, story, iterations, options, deadline_at, status, attempt,
  completed_at, final_event_id, error
)
SELECT gen_random_uuid(), tenant_id, 'user-' || n % 100, agent, mode, story, iterations, options,
  deadline_at, CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'cancelled' END, 1, clock_timestamp(), '1-1',
  '{"code": "MODEL_UNAVAILABLE", "message": "busy", "retryable": true}'
FROM jobs, generate_series(1, $1) AS n
"""

_BACKLOG = """
INSERT INTO jobs (id, tenant_id, user_id, agent, mode, story, iterations, options, deadline_at)
SELECT gen_random_uuid(), tenant_id, 'busy-' || n % $2, agent, mode, story, iterations, options,
  clock_timestamp() + interval '1 hour'
FROM (SELECT * FROM jobs LIMIT 1) AS any_job, generate_series(1, $1) AS n
"""
