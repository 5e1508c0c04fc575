"""Whoever may read usage is told their own, and what remains of their limits."""

import secrets
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

import pytest

from service.api.usage_documents import QuotaDocument, UsageDocument, UsageHistory
from service.domain.api_keys import RANDOM_BYTES, Scope, format_key
from service.domain.job import Owner
from tests.fixtures.api import ALICE, RunningApi
from tests.fixtures.database import Observer
from tests.integration.api.exchanges import Log, exchange, logged, refusal
from tests.integration.postgres.steps import finish_a_call

USAGE = "/api/v1/usage"
DAILY = f"{USAGE}/daily"
QUOTA = f"{USAGE}/quota"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with logged(monkeypatch, caplog) as hearing:
        yield hearing


async def a_key(api: RunningApi, owner: Owner, tier: str, *scopes: Scope) -> str:
    key = format_key(secrets.token_bytes(RANDOM_BYTES))
    await api.stores.keys.insert(
        key.prefix, key.key_hash, owner, name="test", scopes=scopes, tier=tier, valid_for=None
    )
    return key.text


async def used_today(api: RunningApi, log: Log, key: str, query: str = "") -> UsageDocument:
    answer = await exchange(api, log, "GET", USAGE + query, headers=api.sending(key))
    assert answer.status == 200, answer.body
    assert answer.document.keys() == {
        "day",
        "requests",
        "tokenUsage",
        "costUsd",
        "unpricedCalls",
        "reservedTokens",
        "activeJobs",
    }
    return UsageDocument.model_validate(answer.document)


async def quota_of(api: RunningApi, log: Log, key: str) -> QuotaDocument:
    answer = await exchange(api, log, "GET", QUOTA, headers=api.sending(key))
    assert answer.status == 200, answer.body
    return QuotaDocument.model_validate(answer.document)


async def worked(api: RunningApi, key: str | None = None) -> None:
    """A job that runs, with a call of 120 tokens behind it."""
    job = await api.submit(key)
    await finish_a_call(api.stores, await api.claim(job))


async def test_todays_use_is_told(api: RunningApi, log: Log) -> None:
    await worked(api)
    seen = await used_today(api, log, api.keys.alice)
    assert (seen.requests, seen.active_jobs) == (1, 1)
    assert (seen.token_usage.input, seen.token_usage.output) == (100, 20)
    assert (seen.cost_usd, seen.unpriced_calls) == (0.5, 0)


async def test_nobody_reads_what_others_use(api: RunningApi, log: Log) -> None:
    await worked(api)
    for key in (api.keys.bob, api.keys.mallory):
        assert (await used_today(api, log, key)).requests == 0
    answer = await exchange(api, log, "GET", DAILY, headers=api.sending(api.keys.bob))
    assert {day["requests"] for day in answer.document["days"]} == {0}
    assert (await quota_of(api, log, api.keys.bob)).requests_per_day.used == 0


async def test_whoever_sees_the_tenant_may_ask_for_its_sum(api: RunningApi, log: Log) -> None:
    await worked(api)
    await worked(api, api.keys.bob)
    await worked(api, api.keys.mallory)

    whole = await used_today(api, log, api.keys.tenant, "?scope=tenant")
    days = await exchange(
        api, log, "GET", f"{DAILY}?scope=tenant&days=1", headers=api.sending(api.keys.tenant)
    )

    assert (whole.requests, whole.token_usage.input, whole.active_jobs) == (2, 200, 2)
    assert [day["requests"] for day in days.document["days"]] == [2]
    assert (await used_today(api, log, api.keys.tenant, "?scope=user")).requests == 1


@pytest.mark.parametrize("path", [USAGE, DAILY])
async def test_the_sum_of_the_tenant_takes_its_scope(api: RunningApi, log: Log, path: str) -> None:
    answer = await refusal(api, log, "GET", f"{path}?scope=tenant", headers=api.sending())
    assert (answer.status, answer.document["code"]) == (403, "FORBIDDEN")
    assert "jobs:tenant" in answer.document["detail"]


@pytest.mark.parametrize("path", [USAGE, DAILY, QUOTA])
async def test_usage_takes_its_scope(api: RunningApi, log: Log, path: str) -> None:
    for key in (api.keys.alice_reads, api.keys.admin):
        answer = await refusal(api, log, "GET", path, headers=api.sending(key))
        assert (answer.status, answer.document["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("days=0", "days"),
        ("days=91", "days"),
        ("days=", "days"),
        ("days=1.5", "days"),
        ("days=-1", "days"),
        ("scope=all", "scope"),
    ],
)
async def test_a_wrong_question_is_refused(
    api: RunningApi, log: Log, query: str, field: str
) -> None:
    answer = await refusal(api, log, "GET", f"{DAILY}?{query}", headers=api.sending())
    assert answer.status == 400
    assert [error["field"] for error in answer.document["errors"]] == [field]


@pytest.mark.parametrize(("query", "days"), [("", 30), ("?days=1", 1), ("?days=90", 90)])
async def test_each_day_asked_for_is_there_newest_first(
    api: RunningApi, log: Log, query: str, days: int
) -> None:
    await worked(api)
    answer = await exchange(api, log, "GET", DAILY + query, headers=api.sending())
    seen = UsageHistory.model_validate(answer.document).days
    assert len(seen) == days
    assert [day.requests for day in seen] == [1] + [0] * (days - 1)
    newest = seen[0].day
    assert [day.day for day in seen] == [newest - timedelta(days=back) for back in range(days)]


async def test_the_limits_tell_what_remains_until_midnight(
    api: RunningApi, log: Log, observer: Observer
) -> None:
    await worked(api, api.keys.free)
    used = await used_today(api, log, api.keys.free)

    quota = await quota_of(api, log, api.keys.free)

    assert quota.tier == "free"
    day = await observer.value("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
    assert isinstance(day, date)
    midnight = datetime.combine(day + timedelta(days=1), time(), UTC)
    requests, tokens = quota.requests_per_day, quota.tokens_per_day
    assert requests.model_dump() == {
        "limit": 50,
        "used": 1,
        "reserved": 0,
        "remaining": 49,
        "resets_at": midnight,
    }
    assert (tokens.limit, tokens.used, tokens.resets_at) == (100_000, 120, midnight)
    assert tokens.reserved == used.reserved_tokens
    assert tokens.remaining == 100_000 - 120 - used.reserved_tokens
    assert quota.concurrent_jobs.model_dump() == {"limit": 1, "used": 1, "remaining": 0}
    assert (quota.reads_per_minute, quota.open_streams, quota.open_waits) == (600, 20, 20)
    assert (quota.requests_per_minute, quota.story_bytes, quota.iterations_per_job) == (5, 10240, 3)


async def test_cached_tokens_count_and_what_remains_is_never_negative(
    api: RunningApi, log: Log, observer: Observer
) -> None:
    await observer.run(
        "INSERT INTO daily_usage (tenant_id, user_id, day, request_count, input_tokens,"
        " output_tokens, cache_read_tokens, cache_write_tokens)"
        " VALUES ($1, $2, (clock_timestamp() AT TIME ZONE 'UTC')::date, 51, 1, 20, 300, 100000)",
        ALICE.tenant_id,
        ALICE.user_id,
    )
    quota = await quota_of(api, log, api.keys.free)
    assert (quota.requests_per_day.used, quota.requests_per_day.remaining) == (51, 0)
    assert (quota.tokens_per_day.used, quota.tokens_per_day.remaining) == (100_321, 0)


async def test_without_a_limit_nothing_can_run_out(api: RunningApi, log: Log) -> None:
    quota = await quota_of(api, log, api.keys.alice)
    assert quota.tier == "unlimited"
    for limit in (quota.requests_per_day, quota.tokens_per_day, quota.concurrent_jobs):
        assert (limit.limit, limit.remaining) == (None, None)
    assert quota.requests_per_minute is None


async def test_a_users_limits_are_never_the_tenants(api: RunningApi, log: Log) -> None:
    bob = Owner("acme", "bob")
    reader = await a_key(api, bob, "pro", Scope.USAGE_READ, Scope.JOBS_TENANT)
    await worked(api)
    quota = await quota_of(api, log, reader)
    assert (quota.tier, quota.requests_per_day.used) == ("pro", 0)
