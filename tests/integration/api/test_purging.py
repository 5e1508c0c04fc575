"""Purging erases what a user wrote and got, at once and for good; what it has cost stays."""

import asyncio
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from service.api.dependencies import DEPENDENCIES
from service.domain.errors import JobNotEnded, NotFound
from service.domain.events import BEGINNING, EventId, JobEvent, final_event
from service.domain.tiers import UNLIMITED
from service.domain.transitions import Complete
from service.embedded import EmbeddedValkey
from service.streams import keys as stream_keys
from service.telemetry.metrics import JOBS_PURGED, LOST_MARKS
from tests.fixtures.api import JOBS, RunningApi
from tests.fixtures.database import Observer, Stores
from tests.fixtures.event_logs import an_event
from tests.fixtures.factories import a_checkpoint, a_closing, an_opening
from tests.fixtures.waiting import eventually
from tests.integration.api.exchanges import Log, logged, refusal
from tests.integration.postgres.steps import day_of

CANARY = "As a spy, I want my canary 91be kept secret"
PURGE = {"purge": "true"}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with logged(monkeypatch, caplog) as hearing:
        yield hearing


@pytest.fixture
def valkey(valkey_server: EmbeddedValkey) -> Iterator[EmbeddedValkey]:
    """Valkey, running again after the test."""
    yield valkey_server
    if not valkey_server.is_running:
        valkey_server.start()


async def told(api: RunningApi, job: UUID, *events: JobEvent) -> None:
    """Events that are in the job's stream."""
    for event in events:
        assert (await api.events.append(job, [event], 60.0)).is_complete


async def ended(api: RunningApi, key: str | None = None) -> UUID:
    """A job with a paid call, a result and events."""
    job = await api.submit(key, story=CANARY, headers={"Idempotency-Key": uuid4().hex})
    claim = await api.claim(job)
    await api.stores.ledger.open_call(an_opening(claim))
    await api.stores.ledger.close_call(a_closing(claim.fence, checkpoint=a_checkpoint(text=CANARY)))
    result = Complete({"markdown": CANARY, "story": {}})
    recorded = await api.stores.attempts.record_if_current(claim.fence, result, EventId(1, 2))
    assert recorded.applied
    await told(api, job, an_event(job, 1, 1), await end_of(api, job))
    return job


async def end_of(api: RunningApi, job: UUID) -> JobEvent:
    """The terminal event of an ended job."""
    row = await api.stores.attempts.get(job)
    event = final_event(row) if row else None
    assert event is not None
    return event


async def purge(api: RunningApi, job: UUID, key: str | None = None) -> None:
    """Purge a job, which must work."""
    path = f"{JOBS}/{job}"
    async with api.client.delete(path, params=PURGE, headers=api.sending(key)) as response:
        assert response.status == 200, await response.text()
        assert await response.json() == {"id": str(job), "status": "purged"}


async def is_sealed(api: RunningApi, job: UUID) -> bool:
    """Whether the job's stream refuses everybody by now."""
    return (await api.events.append(job, [an_event(job, 2**31 - 1, 1)], 60.0)).is_fenced


async def test_nothing_of_a_purged_job_is_left_but_what_it_has_cost(
    api: RunningApi, observer: Observer
) -> None:
    job = await ended(api)
    row = await api.stores.attempts.get(job)
    assert row is not None
    day, count = await day_of(observer, row.owner), JOBS_PURGED._value.get()

    await purge(api, job)

    for table in ("jobs", "checkpoints", "idempotency_keys"):
        assert await observer.value(f"SELECT count(*) FROM {table}") == 0  # noqa: S608
    assert await api.events.read_after(job, BEGINNING, 10) == []
    await eventually(lambda: is_sealed(api, job), what="late events are refused")
    keys = [key async for key in api.redis.scan_iter(match="*")]
    for key in keys:
        kind = await api.redis.type(key)
        found = await api.redis.xrange(key) if kind == b"stream" else await api.redis.get(key)
        assert CANARY not in repr(found)
    assert await day_of(observer, row.owner) == day
    assert (await api.stores.ledger.totals(job)).calls == 1
    assert JOBS_PURGED._value.get() == count + 1


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled"])
async def test_a_job_may_have_ended_in_any_way_and_then_there_is_none(
    api: RunningApi, log: Log, how: str
) -> None:
    job = await api.submit()
    if how == "completed":
        await api.complete(job, {})
    elif how == "failed":
        await api.fail(job, "MODEL_REFUSED", "no")
    else:
        await api.stores.jobs.cancel_owned(job, "acme", "alice")

    await purge(api, job)

    for method, path in (
        ("DELETE", f"{JOBS}/{job}?purge=true"),
        ("DELETE", f"{JOBS}/{job}"),
        ("GET", f"{JOBS}/{job}"),
        ("GET", f"{JOBS}/{job}/stream"),
        ("POST", f"{JOBS}/{job}/redrive"),
    ):
        answer = await refusal(api, log, method, path, headers=api.sending())
        assert (answer.status, answer.document["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("is_running", [False, True])
async def test_a_job_that_has_not_ended_is_neither_purged_nor_cancelled(
    api: RunningApi, log: Log, is_running: bool
) -> None:
    job = await api.submit()
    if is_running:
        await api.claim(job)
    await told(api, job, an_event(job, 1, 1))

    answer = await refusal(api, log, "DELETE", f"{JOBS}/{job}?purge=true", headers=api.sending())

    assert (answer.status, answer.document["code"]) == (409, "JOB_NOT_ENDED")
    assert (await api.get(job))["status"] == ("processing" if is_running else "queued")
    assert len(await api.events.read_after(job, BEGINNING, 10)) == 1


async def test_only_who_may_see_a_job_and_write_can_purge_it(api: RunningApi, log: Log) -> None:
    job = await ended(api)
    path = f"{JOBS}/{job}?purge=true"
    for key, status in (
        (api.keys.bob, 404),
        (api.keys.mallory, 404),
        (api.keys.alice_reads, 403),
        (api.keys.admin, 403),
    ):
        answer = await refusal(api, log, "DELETE", path, headers=api.sending(key))
        assert answer.status == status
    assert (await api.get(job))["status"] == "completed"
    assert len(await api.events.read_after(job, BEGINNING, 10)) == 2
    await purge(api, job, api.keys.tenant)


@pytest.mark.parametrize("value", ["yes", "TRUE", "1", ""])
async def test_purging_is_asked_for_in_one_way_only(api: RunningApi, log: Log, value: str) -> None:
    job = await ended(api)
    path = f"{JOBS}/{job}?purge={value}"
    answer = await refusal(api, log, "DELETE", path, headers=api.sending())
    assert (answer.status, answer.document["errors"][0]["field"]) == (400, "purge")
    answer = await refusal(api, log, "DELETE", f"{JOBS}/{job}?purge=false", headers=api.sending())
    assert answer.document["code"] == "JOB_FINISHED"


async def test_without_redis_nothing_is_erased_and_it_can_be_asked_for_again(
    api: RunningApi, log: Log, valkey: EmbeddedValkey
) -> None:
    job = await ended(api)
    valkey.stop()

    for _ in range(2):
        answer = await refusal(
            api, log, "DELETE", f"{JOBS}/{job}?purge=true", headers=api.sending()
        )
        assert (answer.status, answer.document["code"]) == (503, "UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) >= 1
    document = await api.get(job)
    assert (document["story"], document["result"]["markdown"]) == (CANARY, CANARY)

    valkey.start()
    await eventually(lambda: answers(api), what="Redis is back")
    await purge(api, job)


async def answers(api: RunningApi) -> bool:
    async with api.client.get("/readyz") as response:
        return bool((await response.json())["status"] == "ok")


async def test_who_tells_events_late_of_a_purged_job_is_refused(api: RunningApi) -> None:
    job = await ended(api)
    late = await end_of(api, job)
    # A worker that has committed, but not told of it yet.
    await api.redis.delete(stream_keys.events(job))
    await purge(api, job)
    await api.events.append(job, [late], 60.0)
    await eventually(lambda: is_sealed(api, job), what="late events are refused")

    assert (await api.events.append(job, [late], 60.0)).is_fenced
    assert await api.events.read_after(job, BEGINNING, 10) == []
    assert 0 < await api.redis.ttl(stream_keys.events(job)) <= 60


async def test_a_purge_is_done_even_if_redis_goes_before_the_stream_is_sealed(
    api: RunningApi, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await ended(api)
    lost = LOST_MARKS.labels(write="seal_events")
    before, erase = lost._value.get(), api.events.erase

    async def erase_and_lose_redis(job_id: UUID) -> None:
        await erase(job_id)
        valkey.stop()

    monkeypatch.setattr(api.events, "erase", erase_and_lose_redis)
    await purge(api, job)

    await eventually(lambda: lost._value.get() == before + 1, what="the loss is counted")
    assert await api.stores.attempts.get(job) is None


@pytest.mark.parametrize("number", range(8))
async def test_of_a_purge_and_a_redrive_at_once_exactly_one_is_done(
    api: RunningApi, observer: Observer, number: int
) -> None:
    job = await api.submit()
    await api.fail(job, "MODEL_REFUSED", "no")
    path, headers = f"{JOBS}/{job}", api.sending()
    requests = [
        api.client.delete(path, params=PURGE, headers=headers),
        api.client.post(f"{path}/redrive", headers=headers),
    ]
    if number % 2:
        requests.reverse()

    responses = await asyncio.gather(*requests)

    by_method = {response.method: response.status for response in responses}
    rows = await observer.value("SELECT count(*) FROM jobs WHERE id = $1", job)
    assert (by_method["DELETE"], by_method["POST"], rows) in {(200, 404, 0), (409, 202, 1)}


async def test_a_redrive_that_wins_keeps_the_job_and_its_fence(
    api: RunningApi, stores: Stores
) -> None:
    """The row decides, although the events of before have gone by then."""
    job = await api.submit()
    await api.fail(job, "MODEL_REFUSED", "no")
    await told(api, job, an_event(job, 1, 1))
    await api.events.erase(job)
    await stores.dead_letters.redrive_owned(job, "acme", "alice", UNLIMITED)

    with pytest.raises(JobNotEnded):
        await stores.jobs.purge_owned(job, "acme", "alice")

    assert (await api.get(job))["status"] == "queued"
    again = await api.events.append(job, [an_event(job, 1, 1)], 60.0)
    assert again.last == EventId(1, 1)
    assert await api.events.read_after(job, BEGINNING, 10) == []


async def test_whoever_watches_or_waits_for_a_purged_job_is_let_go(
    api: RunningApi, stores: Stores
) -> None:
    job = await api.submit()
    await api.claim(job)
    waiting = asyncio.create_task(wait_for(api, job))
    await eventually(lambda: api.waited_for, what="somebody waits")
    async with api.client.get(f"{JOBS}/{job}/stream", headers=api.sending()) as stream:
        opening = [await stream.content.readuntil(b"\n\n") for _ in range(2)]
        await stores.jobs.cancel_owned(job, "acme", "alice")
        await purge(api, job)
        # In a process of the service a loop does this every second.
        await eventually(lambda: checked(api), within=10, what="the silence is noticed")
        rest = await asyncio.wait_for(stream.content.read(), 10)

    assert b"event: connected" in opening[1]
    assert b"event: complete" not in rest
    # The job may be looked at between its end and its purge.
    assert await asyncio.wait_for(waiting, 10) in {200, 404}
    with pytest.raises(NotFound):
        await stores.jobs.purge_owned(job, "acme", "alice")


async def wait_for(api: RunningApi, job: UUID) -> int:
    async with api.client.get(f"{JOBS}/{job}?wait=30", headers=api.sending()) as response:
        return response.status


async def checked(api: RunningApi) -> bool:
    tails = api.app[DEPENDENCIES].tails
    await tails.check_silence()
    return not tails._watches
