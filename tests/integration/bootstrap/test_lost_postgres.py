"""However Postgres is away, callers of a real API are told soon, and nothing is half written."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

import aiohttp
import pytest
from pydantic import SecretStr

from service.bootstrap import create_api_key, running_api
from service.domain.api_keys import Scope
from service.domain.job import Owner
from service.settings import Settings
from tests.fixtures.api import JOBS, STORY
from tests.fixtures.database import Observer
from tests.fixtures.proxy import Proxy, proxy_to
from tests.fixtures.waiting import eventually
from tests.integration.postgres.steps import assert_books_balance

WITHIN = 3.0
CALLERS = 15
OWNER = Owner("acme", "ann")
JOB = {"story": STORY, "agent": "noop"}


@dataclass(frozen=True)
class Caller:
    """Asks an API whose way to Postgres can be cut."""

    session: aiohttp.ClientSession
    proxy: Proxy
    monitoring: str

    async def asks(self, method: str, path: str) -> tuple[int, str | None, float]:
        """Return the status, when to come back, and how many seconds it took."""
        since = monotonic()
        body = JOB if method == "POST" else None
        async with self.session.request(method, path, json=body) as response:
            await response.read()
            return response.status, response.headers.get("Retry-After"), monotonic() - since

    async def readiness(self) -> tuple[int, dict[str, str]]:
        """What an orchestrator is told."""
        async with self.session.get(f"{self.monitoring}/readyz") as response:
            return response.status, (await response.json())["checks"]


@asynccontextmanager
async def calling(migrated_url: str, redis_url: str) -> AsyncIterator[Caller]:
    async with proxy_to(migrated_url) as (proxy, address):
        settings = Settings(
            redis_url=SecretStr(redis_url), database_url=SecretStr(address), model="offline",
            host="127.0.0.1", port=0, metrics_port=0, test_agents=True,
        )  # fmt: skip
        key, _ = await create_api_key(
            settings, OWNER, name="test", scopes=[Scope.JOBS_READ, Scope.JOBS_WRITE],
            tier="unlimited", valid_for=None,
        )  # fmt: skip
        async with running_api(settings) as running:
            assert running.address is not None
            assert running.metrics_address is not None
            headers = {"Authorization": f"Bearer {key}"}
            async with aiohttp.ClientSession(running.address, headers=headers) as session:
                yield Caller(session, proxy, running.metrics_address)
            proxy.thaw()


@pytest.fixture
async def caller(migrated_url: str, redis_url: str) -> AsyncIterator[Caller]:
    async with calling(migrated_url, redis_url) as caller:
        yield caller


@pytest.mark.parametrize("is_known", [False, True], ids=["new key", "known key"])
async def test_whoever_asks_a_frozen_postgres_for_something_is_told_in_time(
    caller: Caller, observer: Observer, is_known: bool
) -> None:
    if is_known:
        assert (await caller.asks("POST", JOBS))[0] == 202
    caller.proxy.freeze()

    answers = await asyncio.gather(
        *(caller.asks("POST" if n % 2 else "GET", JOBS) for n in range(CALLERS))
    )

    assert {status for status, _, _ in answers} == {503}
    assert all(after is not None and int(after) >= 1 for _, after, _ in answers)
    assert max(seconds for _, _, seconds in answers) < WITHIN
    status, checks = await caller.readiness()
    assert (status, checks["postgres"]) == (503, "unavailable")

    caller.proxy.thaw()
    await eventually(lambda: works(caller), within=20, what="it works again")
    await nothing_is_half_written(observer)


async def test_one_frozen_connection_is_told_of_and_the_next_request_gets_another(
    caller: Caller, observer: Observer
) -> None:
    assert (await caller.asks("POST", JOBS))[0] == 202
    caller.proxy.freeze(new=False)

    status, after, seconds = await caller.asks("POST", JOBS)

    assert (status, after is not None) == (503, True)
    assert seconds < WITHIN
    assert (await caller.asks("GET", JOBS))[0] == 200
    caller.proxy.thaw()
    await nothing_is_half_written(observer)


async def works(caller: Caller) -> bool:
    return (await caller.asks("POST", JOBS))[0] == 202


async def nothing_is_half_written(observer: Observer) -> None:
    """Every job there is was counted, and every one that was counted is there."""

    async def is_quiet() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        return await observer.value(f"{query} AND state = 'active'") == 1

    await eventually(is_quiet, within=10, what="no statement is under way")
    await assert_books_balance(observer)
