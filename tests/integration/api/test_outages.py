"""Without Postgres nothing is promised; without Redis nothing is lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from time import monotonic
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.embedded import EmbeddedPostgres, EmbeddedValkey
from service.postgres.schema import migrate
from service.telemetry.metrics import LOST_MARKS
from tests.fixtures.api import JOBS, STORY, RunningApi, running_api
from tests.fixtures.database import open_stores
from tests.fixtures.servers import create_database, drop_database
from tests.fixtures.waiting import eventually
from tests.integration.api.exchanges import Log, exchange, logged, refusal


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with logged(monkeypatch, caplog) as hearing:
        yield hearing


@pytest.fixture
def postgres(postgres_server: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """A server that the test may stop."""
    yield postgres_server
    if not postgres_server.is_running:
        postgres_server.start()


@pytest.fixture
def valkey(valkey_server: EmbeddedValkey) -> Iterator[EmbeddedValkey]:
    """A server that the test may stop or freeze."""
    yield valkey_server
    if not valkey_server.is_running:
        valkey_server.start()


@pytest.fixture
async def fragile(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> AsyncIterator[RunningApi]:
    """The API on servers that can be stopped."""
    name = f"test_{uuid4().hex[:12]}"
    async with open_stores(await create_database(postgres.url, name)) as stores:
        await migrate(stores.database)
        async with running_api(stores, valkey.url) as running:
            yield running
    if not postgres.is_running:
        postgres.start()
    await drop_database(postgres.url, name)


# --- Postgres --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", JOBS),
        ("GET", JOBS),
        ("GET", f"{JOBS}/{uuid4()}"),
        ("GET", f"{JOBS}/{uuid4()}/stream"),
        ("DELETE", f"{JOBS}/{uuid4()}"),
        ("POST", f"{JOBS}/{uuid4()}/redrive"),
    ],
)
async def test_without_postgres_callers_are_told_to_come_back(
    fragile: RunningApi,
    postgres: EmbeddedPostgres,
    log: Log,
    method: str,
    path: str,
    is_known: bool,
) -> None:
    if is_known:
        await exchange(fragile, log, "GET", JOBS, headers=fragile.sending())
    postgres.stop()

    body = {"json": {"story": STORY}} if method == "POST" else {}
    answer = await refusal(fragile, log, method, path, headers=fragile.sending(), **body)
    assert (answer.status, answer.document["code"]) == (503, "UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.line["log_level"] == "warning"
    assert "Postgres" in answer.line["reason"]
    assert "Postgres" not in answer.body.decode()
    # Nobody knows here whether it was done.
    outcomes = [record["outcome"] for record in log.decisions()]
    assert outcomes == ([] if method == "GET" else ["failed"])


async def test_when_postgres_is_back_everything_works_again(
    fragile: RunningApi, postgres: EmbeddedPostgres, log: Log
) -> None:
    job = await fragile.submit()
    postgres.stop()
    answer = await refusal(fragile, log, "GET", f"{JOBS}/{job}", headers=fragile.sending())
    assert answer.status == 503
    postgres.start()
    assert (await fragile.get(job))["status"] == "queued"


async def test_readiness_follows_postgres_and_liveness_does_not(
    fragile: RunningApi, postgres: EmbeddedPostgres, log: Log
) -> None:
    for path in ("/readyz", "/ready"):
        assert (await exchange(fragile, log, "GET", path)).status == 200
    postgres.stop()
    for path in ("/readyz", "/ready"):
        answer = await exchange(fragile, log, "GET", path)
        assert answer.status == 503
        assert answer.document["status"] == "unavailable"
        assert answer.document["checks"] == {"postgres": "unavailable", "redis": "ok"}
        assert answer.line["log_level"] == "info"
    for path in ("/healthz", "/health", "/version", "/"):
        assert (await exchange(fragile, log, "GET", path)).status == 200
    postgres.start()
    assert (await exchange(fragile, log, "GET", "/readyz")).status == 200


async def test_waiting_outlasts_a_restart_of_postgres(
    fragile: RunningApi, postgres: EmbeddedPostgres, log: Log
) -> None:
    job = await fragile.submit()
    waiting = asyncio.create_task(fragile.get(f"{job}?wait=40"))
    await eventually(lambda: fragile.waited_for, what="somebody waits")
    postgres.stop()
    await eventually(lambda: _failed_rounds(log), what="the wait notices")
    postgres.start()
    await fragile.complete(job, {"story": {}})
    assert (await asyncio.wait_for(waiting, 20))["status"] == "completed"
    log.has_no_traceback()


async def test_a_job_stays_accepted_when_postgres_goes_while_its_sender_waits(
    fragile: RunningApi, postgres: EmbeddedPostgres, log: Log
) -> None:
    body, headers = {"story": STORY, "agent": "noop"}, fragile.sending()
    sent = asyncio.create_task(
        exchange(fragile, log, "POST", f"{JOBS}?wait=1", json=body, headers=headers)
    )
    [job] = await eventually(lambda: fragile.waited_for, what="somebody waits")
    postgres.stop()
    answer = await asyncio.wait_for(sent, 20)
    assert (answer.status, answer.document["job"]["id"]) == (202, str(job))
    postgres.start()
    assert (await fragile.get(job))["status"] == "queued"


def _failed_rounds(log: Log) -> int:
    return sum(line["event"] == "loop_round_failed" for line in log.lines)


# --- Redis -----------------------------------------------------------------------------------


async def row_of(api: RunningApi, job: UUID) -> asyncpg.Record:
    """A job's row."""
    async with api.stores.database.connection() as connection:
        row = await connection.fetchrow("SELECT * FROM jobs WHERE id = $1", job)
    assert row is not None
    return row


async def test_without_redis_a_job_is_accepted_and_left_to_the_relay(
    fragile: RunningApi, valkey: EmbeddedValkey, log: Log
) -> None:
    lost = LOST_MARKS.labels(write="add_entry")
    before = lost._value.get()
    valkey.stop()

    job = await fragile.submit()
    assert await fragile.wake_relay.wait(10)
    assert lost._value.get() == before + 1
    left = [line for line in log.lines if line["event"] == "left_to_maintenance"]
    assert [(line["write"], line["job"]) for line in left] == [("add_entry", str(job))]
    assert (await row_of(fragile, job))["entry_id"] is None
    assert (await fragile.get(job))["status"] == "queued"
    log.has_no_traceback()


async def test_without_redis_cancelling_is_decided_all_the_same(
    fragile: RunningApi, valkey: EmbeddedValkey, log: Log
) -> None:
    job = await fragile.submit()
    valkey.stop()
    for _ in range(2):
        answer = await exchange(fragile, log, "DELETE", f"{JOBS}/{job}", headers=fragile.sending())
        assert answer.status == 200
    assert (await fragile.get(job))["status"] == "cancelled"
    await eventually(lambda: _is_owed(log, job), what="the event is left to maintenance")
    assert (await row_of(fragile, job))["event_pending"]


def _is_owed(log: Log, job: UUID) -> bool:
    return any(
        line["event"] == "left_to_maintenance"
        and (line["write"], line["job"]) == ("append_final_event", str(job))
        for line in log.lines
    )


async def test_without_redis_a_redriven_job_is_queued_and_left_to_the_relay(
    fragile: RunningApi, valkey: EmbeddedValkey, log: Log
) -> None:
    job = await fragile.submit()
    await eventually(lambda: _has_entry(fragile, job), what="its first entry is noted")
    await fragile.fail(job, "MODEL_REFUSED", "the model refused")
    valkey.stop()

    started, path = monotonic(), f"{JOBS}/{job}/redrive"
    answer = await exchange(fragile, log, "POST", path, headers=fragile.sending())

    assert answer.status == 202
    assert monotonic() - started < 3.0
    assert await fragile.wake_relay.wait(10)
    left = [line["write"] for line in log.lines if line["event"] == "left_to_maintenance"]
    assert left == ["redrive_events", "add_entry"]
    row = await row_of(fragile, job)
    assert (row["status"], row["entry_id"], row["event_pending"]) == ("queued", None, False)
    assert row["relay_after"] - row["available_at"] < timedelta(seconds=3.5)
    log.has_no_traceback()


async def _has_entry(api: RunningApi, job: UUID) -> bool:
    return (await row_of(api, job))["entry_id"] is not None


async def test_without_redis_the_api_is_ready_but_says_degraded(
    fragile: RunningApi, valkey: EmbeddedValkey, log: Log
) -> None:
    valkey.stop()
    answer = await exchange(fragile, log, "GET", "/readyz")
    assert (answer.status, answer.document["status"]) == (200, "degraded")
    assert answer.document["checks"] == {"postgres": "ok", "redis": "unavailable"}
    valkey.start()
    assert (await exchange(fragile, log, "GET", "/readyz")).document["status"] == "ok"


async def test_nobody_waits_for_a_redis_that_hangs(
    fragile: RunningApi, valkey: EmbeddedValkey, log: Log
) -> None:
    job = await fragile.submit()
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        started = monotonic()
        await fragile.submit()
        await exchange(fragile, log, "DELETE", f"{JOBS}/{job}", headers=fragile.sending())
        assert monotonic() - started < 3.0  # what one answer of Redis may take
        answer = await exchange(fragile, log, "GET", "/readyz")
        assert answer.document["status"] == "degraded"
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
