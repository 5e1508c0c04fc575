"""A checkup tells what is wrong with real servers, all of it, and no secrets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from service.agent.model_stub import ModelStub
from service.bootstrap import check_up, migrate
from service.bootstrap.agents import today
from service.domain.checkup import Finding, Health
from service.domain.lifecycle import ModelLifecycle, Stage
from service.settings import Settings
from service.streams.connection import command_client
from service.streams.pending import RedisPending
from tests.fixtures.oidc import Issuer
from tests.fixtures.plug_ins import install
from tests.fixtures.servers import as_role

NOBODY = "127.0.0.1:1"
SECRET = "hush-hush"


def settings(redis_url: str, database_url: str, **more: Any) -> Settings:
    given = {"redis_url": redis_url, "database_url": database_url, "model": "offline"}
    return Settings(**(given | more))


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    found = {finding.check: finding for finding in findings}
    assert len(found) == len(findings)
    return found


async def health(settings: Settings) -> dict[str, str]:
    findings = await check_up(settings)
    assert all(each.advice for each in findings if each.health is not Health.OK)
    return {check: each.health.value for check, each in by_check(findings).items()}


async def shown_version(database_url: str) -> str:
    connection = await asyncpg.connect(database_url)
    try:
        shown: str = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    return shown.partition(" ")[0]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator["Redis"]:
    """A connection to the test's Redis, which is as it was before when the test ends."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        before = [await client.config_get(name) for name in ("maxmemory-policy", "appendonly")]
        yield client
        for settings in before:
            for name, value in settings.items():
                await client.config_set(str(name), str(value))


async def test_where_all_is_there_all_is_well(
    redis: Redis, redis_url: str, migrated_url: str
) -> None:
    await redis.config_set("appendonly", "yes")
    client = command_client(redis_url, name="test")
    await RedisPending(client).ensure_streams()
    await client.aclose()
    found = by_check(await check_up(settings(redis_url, migrated_url)))
    assert {each.health for each in found.values()} == {Health.OK}
    assert list(found) == [
        "agents",
        "postgres",
        "schema",
        "role of workers",
        "redis",
        "redis memory",
        "redis persistence",
        "job streams",
        "model",
    ]
    assert found["postgres"].message == f"PostgreSQL {await shown_version(migrated_url)} answers"
    assert "offline" in found["model"].message


async def test_looking_changes_nothing(redis: Redis, redis_url: str, database_url: str) -> None:
    first = await health(settings(redis_url, database_url))
    assert await redis.dbsize() == 0
    assert await health(settings(redis_url, database_url)) == first
    assert (first["schema"], first["job streams"]) == ("failed", "warning")


async def test_missing_migrations_are_named(redis_url: str, database_url: str) -> None:
    found = by_check(await check_up(settings(redis_url, database_url)))
    assert "0001" in found["schema"].message
    assert "usa migrate" in (found["schema"].advice or "")
    await migrate(settings(redis_url, database_url))
    assert (await health(settings(redis_url, database_url)))["schema"] == "ok"


async def test_a_migration_that_was_changed_is_told(
    redis_url: str, migrated_url: str, observer: Any
) -> None:
    await observer.run("UPDATE schema_migrations SET sha256 = 'x' WHERE version = 1")
    found = by_check(await check_up(settings(redis_url, migrated_url)))
    assert found["postgres"].health is Health.OK
    assert found["schema"].health is Health.FAILED
    assert "was changed" in found["schema"].message


async def test_the_role_of_each_address_is_looked_at(redis_url: str, migrated_url: str) -> None:
    worker, api = as_role(migrated_url, "usa_worker"), as_role(migrated_url, "usa_api")
    right = by_check(await check_up(settings(redis_url, worker, api_database_url=api)))
    swapped = by_check(await check_up(settings(redis_url, api, api_database_url=worker)))
    owner = by_check(await check_up(settings(redis_url, worker, api_database_url=migrated_url)))
    roles = ("role of workers", "role of requests")
    assert [right[role].health for role in roles] == [Health.OK, Health.OK]
    assert [swapped[role].health for role in roles] == [Health.FAILED, Health.FAILED]
    assert "lacks grants" in swapped["role of workers"].message
    assert "sees every tenant" in owner["role of requests"].message


async def test_a_redis_that_may_forget_is_warned_of(
    redis: Redis, redis_url: str, migrated_url: str
) -> None:
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    await redis.config_set("appendonly", "no")
    seen = await health(settings(redis_url, migrated_url))
    assert seen["redis"] == "ok"
    assert (seen["redis memory"], seen["redis persistence"]) == ("warning", "warning")


async def test_a_server_that_is_away_does_not_hide_the_other(
    redis_url: str, migrated_url: str
) -> None:
    without_redis = await health(settings(f"redis://{NOBODY}", migrated_url))
    assert (without_redis["postgres"], without_redis["redis"]) == ("ok", "failed")
    without_postgres = await health(settings(redis_url, f"postgresql://usa@{NOBODY}/usa"))
    assert (without_postgres["postgres"], without_postgres["redis"]) == ("failed", "ok")


async def test_servers_that_never_answer_are_waited_for_a_bounded_time(
    model_stub: ModelStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.bootstrap.checkup._MODEL_WITHIN", 5.0)
    monkeypatch.setattr("service.bootstrap.checkup._SERVER_WITHIN", 5.0)
    async with silent_server() as address:
        seen = await health(
            settings(
                f"redis://{address}",
                f"postgresql://usa@{address}/usa",
                model="anthropic",
                anthropic_api_key=SECRET,
                anthropic_base_url=f"http://{address}",
            )
        )
    assert seen.pop("agents") == "ok"
    assert set(seen.values()) == {"failed"}
    assert len(seen) == 5


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """A server that takes connections and says nothing."""
    gone = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        gone.set()
        server.close()
        await server.wait_closed()


async def test_no_secret_is_in_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> str:
        raise RuntimeError(f"cannot use {SECRET} or p%40ss or p@ss")

    monkeypatch.setattr("service.bootstrap.checkup.server_version", fail)
    found = await check_up(
        settings(
            f"redis://:{SECRET}@{NOBODY}",
            f"postgresql://usa:p%40ss@{NOBODY}/usa",
            model="anthropic",
            anthropic_api_key=SECRET,
            anthropic_base_url=f"http://{NOBODY}",
        )
    )
    told = repr(found)
    assert "(hidden)" in told
    assert SECRET not in told
    assert "p%40ss" not in told
    assert "p@ss" not in told


async def test_a_short_password_leaves_no_holes_in_our_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> str:
        raise RuntimeError("an answer to usa:a@nobody")

    monkeypatch.setattr("service.bootstrap.checkup.server_version", fail)
    url = f"postgresql://usa:a@{NOBODY}/usa"
    found = by_check(await check_up(settings(f"redis://{NOBODY}", url)))
    assert found["postgres"].message == "RuntimeError: an answer to usa:(hidden)@nobody"


async def test_a_password_in_the_query_of_an_address_is_a_secret_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> str:
        raise RuntimeError(f"cannot use {SECRET}")

    monkeypatch.setattr("service.bootstrap.checkup.server_version", fail)
    url = f"postgresql://usa@{NOBODY}/usa?password={SECRET}"
    told = repr(await check_up(settings(f"redis://{NOBODY}", url)))
    assert "(hidden)" in told
    assert SECRET not in told


async def test_what_the_sentinels_are_asked_with_is_a_secret_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> str:
        raise RuntimeError(f"cannot use {SECRET}")

    monkeypatch.setattr("service.bootstrap.checkup.server_version", fail)
    url = f"redis+sentinel://{NOBODY}/usa?sentinel_password={SECRET}"
    told = repr(await check_up(settings(url, f"postgresql://usa@{NOBODY}/usa")))
    assert "no Sentinel tells the primary" in told
    assert "(hidden)" in told
    assert SECRET not in told


# --- models ----------------------------------------------------------------------------------


def with_claude(stub: ModelStub, redis_url: str, database_url: str) -> Settings:
    return settings(
        redis_url,
        database_url,
        model="anthropic",
        anthropic_api_key=SECRET,
        anthropic_base_url=stub.address,
    )


async def test_every_configured_model_is_looked_up(
    model_stub: ModelStub, redis_url: str, migrated_url: str
) -> None:
    found = await health(with_claude(model_stub, redis_url, migrated_url))
    models = {check: value for check, value in found.items() if check.startswith("model ")}
    assert models == {
        "model claude-haiku-5-5": "ok",
        "model claude-sonnet-5-5": "ok",
        "model claude-opus-5-5": "ok",
    }
    assert model_stub.calls == []


async def test_models_that_are_going_gone_and_unknown_are_warned_of(
    model_stub: ModelStub, redis_url: str, migrated_url: str
) -> None:
    soon = today() + timedelta(days=10)
    model_stub.catalogue.lifecycles = {
        "claude-haiku-5-5": ModelLifecycle(Stage.DEPRECATED, soon),
        "claude-sonnet-5-5": ModelLifecycle(Stage.RETIRED),
    }
    found = by_check(await check_up(with_claude(model_stub, redis_url, migrated_url)))
    assert f"retires on {soon}" in found["model claude-haiku-5-5"].message
    assert "is retired" in found["model claude-sonnet-5-5"].message
    assert "unknown" in found["model claude-opus-5-5"].message
    models = [finding for check, finding in found.items() if check.startswith("model ")]
    assert {each.health for each in models} == {Health.WARNING}


async def test_a_configured_model_without_a_price_is_warned_of(
    model_stub: ModelStub, redis_url: str, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.domain.pricing.PRICES", ())
    found = await health(with_claude(model_stub, redis_url, migrated_url))
    prices = [value for check, value in found.items() if check.startswith("price ")]
    assert prices == ["warning"] * 3
    assert found["model claude-opus-5-5"] == "ok"


async def test_without_a_key_for_claude_the_model_has_failed(
    redis_url: str, migrated_url: str
) -> None:
    found = by_check(await check_up(settings(redis_url, migrated_url, model="anthropic")))
    assert found["model"].health is Health.FAILED
    assert "ANTHROPIC_API_KEY" in found["model"].message
    assert found["postgres"].health is Health.OK


async def test_a_broken_agent_is_told_beside_all_else(
    redis_url: str, migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install(tmp_path / "broken", "usa-poems", "poems = no_such_poems:Agent")
    monkeypatch.syspath_prepend(str(folder))
    found = by_check(await check_up(settings(redis_url, migrated_url)))
    assert found["agents"].health is Health.FAILED
    assert "usa-poems 2.1" in found["agents"].message
    assert found["postgres"].health is Health.OK


async def test_an_issuer_of_tokens_is_asked_for_its_keys(
    redis_url: str, database_url: str, issuer: Issuer
) -> None:
    trusting = settings(
        redis_url, database_url, oidc_issuer=issuer.address, oidc_audience="stories"
    )
    found = by_check(await check_up(trusting))["token issuer"]
    assert found == Finding.ok("token issuer", f"{issuer.address} answers, 2 usable keys")

    issuer.keys.clear()
    found = by_check(await check_up(trusting))["token issuer"]
    assert (found.health, "USA_OIDC_ALGORITHMS" in str(found.advice)) == (Health.FAILED, True)

    issuer.is_down = True
    found = by_check(await check_up(trusting))["token issuer"]
    assert (found.health, found.advice) == (Health.FAILED, "check USA_OIDC_ISSUER")
    assert "token issuer" not in by_check(await check_up(settings(redis_url, database_url)))
