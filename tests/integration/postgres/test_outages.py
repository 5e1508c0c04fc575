"""Postgres stopped, killed, restarted and half open: bounded, named, and over when it is over."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from time import monotonic

import pytest

from service.domain.attempt import Verdict
from service.domain.errors import Unavailable
from service.domain.events import EventId
from service.domain.job import JobStatus
from service.domain.transitions import Complete
from service.embedded import EmbeddedPostgres
from service.postgres.pool import Database
from service.supervision import retry_while_unavailable
from tests.fixtures.database import Observer, Stores, open_stores
from tests.fixtures.factories import (
    a_checkpoint,
    a_closing,
    a_delivery,
    a_new_job,
    an_opening,
    an_owner,
    terms,
)
from tests.fixtures.proxy import Proxy, Way, proxy_to
from tests.fixtures.waiting import eventually
from tests.integration.postgres.steps import LONG, assert_books_balance, claimed

ACQUIRE, COMMAND = 0.4, 0.8
# Room for a busy machine; without a limit these tests would wait for half a minute and more.
SLACK = 1.5


class Clock:
    """Measures how long something took."""

    def __init__(self) -> None:
        self._started = monotonic()

    @property
    def seconds(self) -> float:
        """Since this was made."""
        return monotonic() - self._started


@pytest.fixture
async def proxied(migrated_url: str) -> AsyncIterator[tuple[Proxy, Database]]:
    """A proxy, and an impatient pool behind it."""
    async with proxy_to(migrated_url) as (proxy, url):
        database = Database(url, name="proxied", size=5, acquire=ACQUIRE, command=COMMAND)
        yield proxy, database
        await database.close()


@pytest.fixture
async def lossy(migrated_url: str) -> AsyncIterator[tuple[Proxy, Stores]]:
    """Stores whose answers can be lost, with every statement prepared on one connection."""
    async with proxy_to(migrated_url) as (proxy, url):
        database = Database(url, name="lossy", size=1)
        async with open_stores(url, database) as stores:
            yield proxy, stores


async def open_connections(database: Database, count: int) -> None:
    """Make the pool hold as many idle connections."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(database.connection())


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_server_that_is_down_is_named_at_once_and_found_again_when_it_is_back(
    postgres_server: EmbeddedPostgres, stores: Stores, how: str
) -> None:
    await open_connections(stores.database, 3)
    getattr(postgres_server, how)()
    try:
        clock = Clock()
        for _ in range(5):
            with pytest.raises(Unavailable, match="Postgres"):
                await stores.database.ping()
        took = clock.seconds
    finally:
        postgres_server.start()

    assert took < SLACK
    accepted = await stores.jobs.accept(a_new_job())
    assert accepted.is_new


async def test_statements_in_flight_during_a_restart_fail_as_unavailable_and_the_next_work(
    postgres_server: EmbeddedPostgres, stores: Stores
) -> None:
    async def sleep() -> None:
        async with stores.database.connection() as connection:
            await connection.fetchval("SELECT pg_sleep(30)")

    await open_connections(stores.database, 4)
    sleeping = [asyncio.ensure_future(sleep()) for _ in range(4)]
    await asyncio.sleep(0.1)

    postgres_server.restart()
    clock = Clock()
    answers = await asyncio.gather(*sleeping, return_exceptions=True)

    assert [type(answer) for answer in answers] == [Unavailable] * 4
    assert (await stores.jobs.accept(a_new_job())).is_new
    assert clock.seconds < SLACK


async def test_no_lease_is_taken_over_right_after_a_restart(
    postgres_server: EmbeddedPostgres, stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await observer.run("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 hour'")
    again = [a_delivery(claim.fence.job_id, claim.delivery.entry_id)]

    postgres_server.restart()
    (judged,) = await retry_while_unavailable(
        "claim", lambda: stores.attempts.claim(again, terms("worker-2", lease=15.0)), patience=5.0
    )

    assert judged.verdict is Verdict.LEASED
    assert await stores.upkeep.expired_leases(15.0, 10) == []


async def test_a_frozen_connection_is_given_up_within_its_limits(
    proxied: tuple[Proxy, Database],
) -> None:
    proxy, database = proxied
    await database.ping()
    proxy.freeze()

    for _ in range(3):
        clock = Clock()
        with pytest.raises(Unavailable):
            await database.ping()
        assert clock.seconds < ACQUIRE + COMMAND + SLACK

    proxy.thaw()
    await database.ping()


async def test_a_server_that_accepts_and_says_nothing_is_given_up_within_the_acquire_limit(
    proxied: tuple[Proxy, Database],
) -> None:
    proxy, database = proxied
    proxy.freeze()
    clock = Clock()

    with pytest.raises(Unavailable):
        await database.ping()

    assert clock.seconds < ACQUIRE + SLACK


async def test_one_dead_connection_is_enough_to_distrust_its_idle_neighbours(
    proxied: tuple[Proxy, Database], caplog: pytest.LogCaptureFixture
) -> None:
    proxy, database = proxied
    await open_connections(database, 5)
    proxy.freeze(new=False)

    with caplog.at_level(logging.ERROR, logger="asyncio"):
        with pytest.raises(Unavailable):
            await database.ping()
        clock = Clock()
        for _ in range(5):
            await database.ping()

    assert clock.seconds < SLACK
    assert caplog.records == []


async def test_a_cancelled_statement_on_a_dead_connection_stays_cancelled(
    proxied: tuple[Proxy, Database],
) -> None:
    proxy, database = proxied
    await database.ping()
    proxy.freeze()
    pinging = asyncio.ensure_future(database.ping())
    await asyncio.sleep(0.1)
    clock = Clock()

    pinging.cancel()

    with pytest.raises(asyncio.CancelledError):
        await pinging
    assert pinging.cancelled()
    assert clock.seconds < ACQUIRE + COMMAND + SLACK


async def test_a_cancelled_statement_is_enough_to_distrust_idle_connections(
    proxied: tuple[Proxy, Database],
) -> None:
    proxy, database = proxied
    await open_connections(database, 5)
    proxy.freeze(new=False)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await database.ping()

    for _ in range(5):
        await database.ping()


async def test_a_cancelled_statement_leaves_its_connection_usable(stores: Stores) -> None:
    await stores.database.ping()
    async with stores.database.connection() as connection:
        pid = await connection.fetchval("SELECT pg_backend_pid()")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), stores.database.connection() as connection:
            await connection.fetchval("SELECT pg_sleep(30)")

    async with stores.database.connection() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") == pid


async def test_closing_does_not_wait_for_a_server_that_is_gone(
    proxied: tuple[Proxy, Database],
) -> None:
    proxy, database = proxied
    await open_connections(database, 3)
    proxy.freeze()
    clock = Clock()

    await database.close()

    assert clock.seconds < 3.0 + SLACK
    with pytest.raises(Unavailable):
        await database.ping()


async def test_an_exhausted_pool_is_unavailable_within_the_acquire_limit(
    migrated_url: str,
) -> None:
    database = Database(migrated_url, name="small", size=1, acquire=0.2)
    async with database.connection():
        clock = Clock()
        with pytest.raises(Unavailable):
            await database.ping()
        took = clock.seconds

    await database.ping()
    assert took < SLACK
    await database.close()


async def test_a_statement_that_takes_too_long_is_ended_by_the_server_itself(
    migrated_url: str,
) -> None:
    database = Database(migrated_url, name="slow", command=0.5)
    async with database.connection() as connection:
        pid = await connection.fetchval("SELECT pg_backend_pid()")

    with pytest.raises(Unavailable):
        async with database.connection() as connection:
            await connection.fetchval("SELECT pg_sleep(30)")

    async with database.connection() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") == pid
    await database.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("application_name", "settings"),
        ("TimeZone", "UTC"),
        ("default_transaction_isolation", "read committed"),
        ("statement_timeout", "7200ms"),
        ("lock_timeout", "3s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("jit", "off"),
    ],
)
async def test_every_session_has_its_limits(migrated_url: str, setting: str, value: str) -> None:
    database = Database(migrated_url, name="settings")
    async with database.connection() as connection:
        assert await connection.fetchval(f"SHOW {setting}") == value
    await database.close()


@pytest.mark.parametrize("setting", ["idle", "interval", "count"])
async def test_every_session_asks_for_keepalives(stores: Stores, setting: str) -> None:
    # A Unix socket has none to show, but the server remembers who asked.
    query = "SELECT source FROM pg_settings WHERE name = $1"
    async with stores.database.connection() as connection:
        assert await connection.fetchval(query, f"tcp_keepalives_{setting}") == "client"


async def test_a_statement_costs_one_round_trip(stores: Stores, observer: Observer) -> None:
    await stores.database.ping()
    async with stores.database.connection() as connection:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
    last_query = "SELECT query FROM pg_stat_activity WHERE pid = $1"

    await stores.database.ping()

    assert await observer.value(last_query, pid) == "SELECT 1"


async def test_a_claim_whose_answer_was_lost_is_made_again(lossy: tuple[Proxy, Stores]) -> None:
    proxy, stores = lossy
    await claimed(stores)
    job = (await stores.jobs.accept(a_new_job())).job
    delivery = a_delivery(job.id)
    proxy.lose_next_answer()

    with pytest.raises(Unavailable):
        await stores.attempts.claim([delivery], terms(lease=LONG))
    (claim,) = await stores.attempts.claim([delivery], terms(lease=LONG))

    assert claim.verdict is Verdict.CLAIMED
    assert claim.job is not None
    assert (claim.job.attempt, claim.job.crash_count) == (2, 0)


async def test_an_accept_whose_answer_was_lost_is_found_by_its_key(
    lossy: tuple[Proxy, Stores], observer: Observer
) -> None:
    proxy, stores = lossy
    owner = an_owner()
    await stores.jobs.accept(a_new_job(owner))
    proxy.lose_next_answer()

    with pytest.raises(Unavailable):
        await stores.jobs.accept(a_new_job(owner, key="k"))
    again = await stores.jobs.accept(a_new_job(owner, key="k"))

    assert not again.is_new
    assert await observer.value("SELECT count(*) FROM jobs") == 2


async def test_an_ending_whose_answer_was_lost_is_recognised(
    lossy: tuple[Proxy, Stores],
) -> None:
    proxy, stores = lossy
    first, second = await claimed(stores), await claimed(stores)
    ending, final = Complete({"ok": 1}), EventId(1, 4)
    await stores.attempts.record_if_current(first.fence, ending, final)
    proxy.lose_next_answer()

    with pytest.raises(Unavailable):
        await stores.attempts.record_if_current(second.fence, ending, final)
    again = await stores.attempts.record_if_current(second.fence, ending, final)

    assert again.applied
    assert again.status is JobStatus.COMPLETED


async def test_a_close_whose_answer_was_lost_is_booked_once(
    lossy: tuple[Proxy, Stores], observer: Observer
) -> None:
    proxy, stores = lossy
    claim = await claimed(stores)
    for call in (1, 2):
        await stores.ledger.open_call(an_opening(claim, call))
    await stores.ledger.close_call(a_closing(claim.fence, 1, checkpoint=a_checkpoint("a")))
    second = a_closing(claim.fence, 2, checkpoint=a_checkpoint("b"))
    proxy.lose_next_answer()

    with pytest.raises(Unavailable):
        await stores.ledger.close_call(second)

    assert await stores.ledger.close_call(second)
    assert (await stores.ledger.totals(claim.fence.job_id)).calls == 2
    reserved = await observer.value("SELECT reserved_tokens FROM jobs")
    assert reserved == 1000 - 240
    await assert_books_balance(observer)


async def test_a_cancellation_whose_answer_was_lost_is_the_same_again(
    lossy: tuple[Proxy, Stores],
) -> None:
    proxy, stores = lossy
    ids = [(await stores.jobs.accept(a_new_job())).job.id for _ in range(2)]
    await stores.jobs.cancel_owned(ids[0], "acme", None)
    proxy.lose_next_answer()

    with pytest.raises(Unavailable):
        await stores.jobs.cancel_owned(ids[1], "acme", None)
    again = await stores.jobs.cancel_owned(ids[1], "acme", None)

    assert (again.status, again.attempt) == (JobStatus.CANCELLED, 1)


async def test_who_is_stopped_while_being_answered_keeps_no_user_from_submitting(
    lossy: tuple[Proxy, Stores], stores: Stores, observer: Observer
) -> None:
    proxy, stopped = lossy
    await stopped.jobs.accept(a_new_job())
    owner, story = an_owner(), "As a user, " + 50_000 * "x"
    proxy.freeze(only=Way.ANSWERS)

    # More than all buffers on the way hold, if it were sent back.
    sending = [stopped.jobs.accept(a_new_job(owner, story=story)) for _ in range(100)]
    unanswered = asyncio.gather(*sending)

    async def are_committed() -> bool:
        return await observer.value("SELECT count(*) FROM jobs") == 1 + len(sending)

    await eventually(are_committed, what="they are accepted")
    assert (await stores.jobs.accept(a_new_job(owner))).is_new
    proxy.thaw()
    assert {accepted.job.story for accepted in await unanswered} == {story}
