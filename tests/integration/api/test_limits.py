"""How often a caller may submit and read, and how much may be open at a time."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID, uuid4

import pytest
from aiohttp import ClientResponse

from service.api import rates
from service.api.dependencies import DEPENDENCIES
from service.api.places import WAITS
from service.domain.api_keys import RANDOM_BYTES, Scope, format_key
from service.domain.job import Owner
from service.streams import keys
from service.streams.connection import once_client
from service.streams.rate_limit import RedisRateLimiter
from service.telemetry.logs import get_log
from service.telemetry.metrics import RATES_JUDGED_ALONE, REQUESTS_LIMITED
from tests.fixtures.api import ALICE, BOB, JOBS, STORY, RunningApi, running_api
from tests.fixtures.database import Stores
from tests.fixtures.proxy import redis_proxy_to
from tests.fixtures.waiting import eventually
from tests.integration.api.exchanges import Exchange, Log, exchange, logged, refusal

ITERATIONS = "/api/v1/iterations"
BOTH = {"RateLimit", "RateLimit-Policy"}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    monkeypatch.setattr(rates, "_log", get_log(rates.__name__))
    with logged(monkeypatch, caplog) as hearing:
        yield hearing


async def a_key(api: RunningApi, owner: Owner, tier: str = "free") -> str:
    """Make one more key."""
    key, scopes = format_key(secrets.token_bytes(RANDOM_BYTES)), (Scope.JOBS_READ, Scope.JOBS_WRITE)
    await api.stores.keys.insert(
        key.prefix, key.key_hash, owner, name="more", scopes=scopes, tier=tier, valid_for=None
    )
    return key.text


async def post(api: RunningApi, log: Log, key: str) -> Exchange:
    """Submit a job and cancel it, so that a user's only limit is how often."""
    headers, body = api.sending(key), {"story": STORY, "agent": "noop"}
    answer = await exchange(api, log, "POST", JOBS, json=body, headers=headers)
    if answer.status == 202:
        path = f"{JOBS}/{answer.document['job']['id']}"
        cancelled = await exchange(api, log, "DELETE", path, headers=headers)
        assert cancelled.status == 200
        assert not BOTH & cancelled.headers.keys()
    return answer


async def jobs_of(api: RunningApi, key: str) -> list[str]:
    """The ids of a user's jobs."""
    async with api.client.get(JOBS, headers=api.sending(key)) as response:
        return [job["id"] for job in (await response.json())["jobs"]]


def rate(answer: Exchange, name: str, quota: int) -> tuple[int, int]:
    """What the headers say is left, and in how many seconds there will be more."""
    assert answer.headers["RateLimit-Policy"] == f'"{name}";q={quota};w=60'
    told = re.fullmatch(rf'"{name}";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
    assert told is not None
    return int(told[1]), int(told[2])


async def use_up(api: RunningApi, policy: str, *holder: str) -> None:
    """Let somebody seem to have asked as often as is possible, and to go on."""
    await api.redis.set(keys.rate(policy, holder), 10**17, ex=600)


def caller(key: str) -> str:
    """What a key is counted as."""
    return f"key:{key.split('_')[1]}"


# --- submitting ------------------------------------------------------------------------------


async def test_a_free_users_first_five_in_a_row_pass_and_the_sixth_is_refused(
    api: RunningApi, log: Log
) -> None:
    refused = REQUESTS_LIMITED.labels(what="submit")
    before = refused._value.get()
    for left in (4, 3, 2, 1, 0):
        answer = await post(api, log, api.keys.free)
        assert answer.status == 202
        remaining, reset = rate(answer, "submit", 5)
        assert remaining == left
        assert 1 <= reset <= 12

    answer = await post(api, log, api.keys.free)
    assert (answer.status, answer.document["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert answer.headers["Content-Type"] == "application/problem+json"
    remaining, reset = rate(answer, "submit", 5)
    assert remaining == 0
    assert 1 <= reset <= 12
    assert answer.headers["Retry-After"] == str(reset)
    assert answer.document["detail"] == (
        f"5 submissions per minute are allowed; there is room for one more in {reset} s"
    )
    assert refused._value.get() == before + 1


async def test_a_refused_request_leaves_no_job(api: RunningApi, log: Log) -> None:
    await use_up(api, "submit", ALICE.tenant_id, ALICE.user_id)
    assert (await post(api, log, api.keys.free)).status == 429
    assert await jobs_of(api, api.keys.free) == []


async def test_the_count_is_the_users_and_not_the_keys_or_the_tenants(
    api: RunningApi, log: Log
) -> None:
    await use_up(api, "submit", ALICE.tenant_id, ALICE.user_id)
    other, bobs = await a_key(api, ALICE), await a_key(api, BOB)
    assert (await post(api, log, other)).status == 429
    assert (await post(api, log, bobs)).status == 202


@pytest.mark.parametrize("body", [b"{}", b"no JSON"])
async def test_also_what_is_refused_counts(api: RunningApi, log: Log, body: bytes) -> None:
    headers = api.sending(api.keys.free, **{"Content-Type": "application/json"})
    answer = await refusal(api, log, "POST", JOBS, data=body, headers=headers)
    assert answer.status == 400
    assert rate(answer, "submit", 5)[0] == 4


async def test_a_redrive_counts_as_submitting(api: RunningApi, log: Log) -> None:
    path, headers = f"{JOBS}/{uuid4()}/redrive", api.sending(api.keys.free)
    answer = await refusal(api, log, "POST", path, headers=headers)
    assert (answer.status, rate(answer, "submit", 5)[0]) == (404, 4)
    await use_up(api, "submit", ALICE.tenant_id, ALICE.user_id)
    answer = await refusal(api, log, "POST", path, headers=headers)
    assert (answer.status, answer.document["code"]) == (429, "RATE_LIMIT_EXCEEDED")


async def test_reading_and_cancelling_go_on_when_submitting_is_used_up(
    api: RunningApi, log: Log
) -> None:
    job = await api.submit(api.keys.free)
    await use_up(api, "submit", ALICE.tenant_id, ALICE.user_id)
    headers = api.sending(api.keys.free)
    for path in (f"{JOBS}/{job}", JOBS, ITERATIONS):
        answer = await exchange(api, log, "GET", path, headers=headers)
        assert answer.status == 200
        assert "read" in answer.headers["RateLimit-Policy"]
    assert (await exchange(api, log, "DELETE", f"{JOBS}/{job}", headers=headers)).status == 200


async def test_without_a_limit_nothing_is_said(api: RunningApi, log: Log) -> None:
    await use_up(api, "submit", ALICE.tenant_id, ALICE.user_id)
    await use_up(api, "read", caller(api.keys.alice))
    for method, path, body in (("POST", JOBS, {"story": STORY}), ("GET", JOBS, None)):
        answer = await exchange(api, log, method, path, json=body, headers=api.sending())
        assert answer.status in {200, 202}
        assert not BOTH & answer.headers.keys()


async def test_who_is_not_let_in_is_not_counted(api: RunningApi, log: Log) -> None:
    for key, status in ((api.keys.alice_reads, 403), ("usa_00000000_x", 401)):
        answer = await refusal(api, log, "POST", JOBS, json={}, headers=api.sending(key))
        assert answer.status == status
        assert not BOTH & answer.headers.keys()
    assert rate(await post(api, log, api.keys.free), "submit", 5)[0] == 4


# --- reading ---------------------------------------------------------------------------------


async def test_six_hundred_reads_a_minute(api: RunningApi, log: Log) -> None:
    job = await api.submit(api.keys.free)
    headers = api.sending(api.keys.free)
    answer = await exchange(api, log, "GET", f"{JOBS}/{job}", headers=headers)
    assert rate(answer, "read", 600) == (599, 1)
    await use_up(api, "read", caller(api.keys.free))
    for method in ("GET", "HEAD"):
        answer = await exchange(api, log, method, f"{JOBS}/{job}", headers=headers)
        assert answer.status == 429
        assert rate(answer, "read", 600) == (0, 1)
        assert answer.headers["Retry-After"] == "1"


async def test_reads_are_counted_by_key(api: RunningApi, log: Log) -> None:
    await use_up(api, "read", caller(api.keys.free))
    headers = api.sending(await a_key(api, ALICE))
    answer = await exchange(api, log, "GET", ITERATIONS, headers=headers)
    assert (answer.status, rate(answer, "read", 600)[0]) == (200, 599)


async def test_a_stream_counts_as_one_read(api: RunningApi, log: Log) -> None:
    job = await api.submit(api.keys.free)
    path, headers = f"{JOBS}/{job}/stream", api.sending(api.keys.free)
    await api.client.delete(f"{JOBS}/{job}", headers=headers)
    answer = await exchange(api, log, "GET", path, headers=headers)
    assert (answer.status, rate(answer, "read", 600)[0]) == (200, 599)
    await use_up(api, "read", caller(api.keys.free))
    answer = await refusal(api, log, "GET", path, headers=headers)
    assert (answer.status, answer.document["code"]) == (429, "RATE_LIMIT_EXCEEDED")


async def test_submitting_and_cancelling_go_on_when_reading_is_used_up(
    api: RunningApi, log: Log
) -> None:
    await use_up(api, "read", caller(api.keys.free))
    assert (await post(api, log, api.keys.free)).status == 202


# --- without Redis ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["is down", "hangs"])
async def test_without_redis_jobs_are_accepted_at_the_same_rate_and_it_is_said_once(
    stores: Stores, redis_url: str, log: Log, how: str
) -> None:
    alone = RATES_JUDGED_ALONE._value.get()
    async with AsyncExitStack() as stack:
        proxy, behind = await stack.enter_async_context(redis_proxy_to(redis_url))
        once = once_client(behind, name="limits", timeout=30.0)
        stack.push_async_callback(once.aclose)
        limiter = RedisRateLimiter(once, patience=0.2)
        api = await stack.enter_async_context(running_api(stores, redis_url, rate_limiter=limiter))
        if how == "hangs":
            proxy.freeze()
        else:
            await proxy.close()
        answers = [await post(api, log, api.keys.free) for _ in range(6)]
        assert [each.status for each in answers] == [202] * 5 + [429]
        assert [rate(each, "submit", 5)[0] for each in answers] == [4, 3, 2, 1, 0, 0]
    assert RATES_JUDGED_ALONE._value.get() == alone + 6
    said = [line for line in log.lines if line["event"] == "rates_judged_alone"]
    assert [line["log_level"] for line in said] == ["warning"]
    log.has_no_traceback()


# --- open streams and waits ------------------------------------------------------------------


@asynccontextmanager
async def streams(api: RunningApi, job: UUID, key: str, count: int) -> AsyncIterator[None]:
    """Hold so many open streams of one job."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            opened = await stack.enter_async_context(stream(api, job, key))
            assert opened.status == 200
        yield


@asynccontextmanager
async def stream(api: RunningApi, job: UUID, key: str) -> AsyncIterator[ClientResponse]:
    """Ask for a stream."""
    async with api.client.get(f"{JOBS}/{job}/stream", headers=api.sending(key)) as response:
        yield response


async def status_of_one_more(api: RunningApi, job: UUID, key: str) -> int:
    """What one more stream would be answered."""
    async with stream(api, job, key) as response:
        return response.status


async def test_a_user_has_twenty_open_streams_with_whatever_key(api: RunningApi, log: Log) -> None:
    job, other = await api.submit(), await a_key(api, ALICE)
    async with streams(api, job, api.keys.free, 19), streams(api, job, other, 1):
        path, headers = f"{JOBS}/{job}/stream", api.sending(api.keys.free)
        answer = await refusal(api, log, "GET", path, headers=headers)
        assert (answer.status, answer.document["code"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert int(answer.headers["Retry-After"]) >= 1
        bobs = await a_key(api, BOB)
        assert await status_of_one_more(api, await api.submit(api.keys.bob), bobs) == 200
        assert await status_of_one_more(api, job, api.keys.alice) == 200
        assert (await api.get(job, api.keys.free))["status"] == "queued"


async def test_a_client_that_was_killed_leaves_its_place(api: RunningApi) -> None:
    job, key = await api.submit(), api.keys.free
    head = f"GET {JOBS}/{job}/stream HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n"
    answers, victim = await asyncio.open_connection(api.client.host, api.client.port)
    async with streams(api, job, key, 19):
        victim.write(head.encode())
        assert (await answers.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await status_of_one_more(api, job, key) == 429

        async def has_room() -> bool:
            # As every process does once a second.
            await api.app[DEPENDENCIES].tails.check_silence()
            return await status_of_one_more(api, job, key) == 200

        victim.transport.abort()
        await eventually(has_room, what="its place is free")


async def test_streams_that_end_leave_their_places(api: RunningApi) -> None:
    job = await api.submit()
    await api.client.delete(f"{JOBS}/{job}", headers=api.sending())
    for _ in range(25):
        assert await status_of_one_more(api, job, api.keys.free) == 200


def waiting(api: RunningApi, owner: Owner) -> int:
    """How many waits a user has open."""
    return api.app[WAITS]._taken[owner]


async def test_a_user_has_twenty_waits_and_a_submission_that_cannot_wait_is_none(
    api: RunningApi, log: Log
) -> None:
    job, headers = await api.submit(), api.sending(api.keys.free)

    async def wait() -> int:
        async with api.client.get(f"{JOBS}/{job}?wait=60", headers=headers) as response:
            return response.status

    waits = [asyncio.create_task(wait()) for _ in range(20)]
    await eventually(lambda: waiting(api, ALICE) == 20, what="twenty wait")
    for method, path in (("GET", f"{JOBS}/{job}"), ("POST", JOBS)):
        body = {"json": {"story": STORY, "agent": "noop"}} if method == "POST" else {}
        answer = await refusal(api, log, method, path + "?wait=1", headers=headers, **body)
        assert (answer.status, answer.document["code"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert int(answer.headers["Retry-After"]) >= 1
    assert await jobs_of(api, api.keys.free) == [str(job)]
    assert (await api.get(job, api.keys.free))["status"] == "queued"

    await api.complete(job, {})
    assert await asyncio.wait_for(asyncio.gather(*waits), 30) == [200] * 20
    assert waiting(api, ALICE) == 0
