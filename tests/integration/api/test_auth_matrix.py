"""Every operation answers every kind of caller as the table says: `pytest -s` shows it."""

from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from service.api.routes import ROUTES
from service.api.routing import Route
from tests.fixtures.api import JOBS, RunningApi, running_api
from tests.fixtures.database import Observer, Stores
from tests.fixtures.oidc import Issuer, token_reader
from tests.integration.api.auth_table import COLUMNS, ROWS, Row, credentials, drawn

GUARDED = {route.operation or "": route for route in ROUTES if route.scope is not None}


@pytest.fixture
async def api(stores: Stores, redis_url: str, issuer: Issuer) -> AsyncIterator[RunningApi]:
    """The API, which takes this issuer's tokens as well."""
    tokens = token_reader(issuer, stores).recognise
    async with running_api(stores, redis_url, tokens=tokens) as running:
        yield running


def test_the_table_has_a_row_for_each_operation_that_needs_a_scope() -> None:
    assert ROWS.keys() == GUARDED.keys()


def test_nothing_of_the_api_is_open_to_all() -> None:
    unguarded = {route.path for route in ROUTES if route.scope is None}
    assert [path for path in unguarded if path.startswith("/api/")] == []


async def test_each_caller_may_do_what_the_table_says_and_nothing_else(
    api: RunningApi, issuer: Issuer, observer: Observer
) -> None:
    # What is tried here is who may do something, not how much of it.
    lifted = '{"concurrent_jobs": null, "requests_per_minute": null}'
    await observer.run("INSERT INTO user_limits VALUES ('acme', 'alice', $1)", lifted)
    asked = Asked(api, issuer)
    for operation, route in GUARDED.items():
        await asked.all_about(operation, route, ROWS[operation])

    print(f"\n{drawn(asked.statuses)}")  # noqa: T201 - the table is to be read
    expected = {
        operation: {column: row.expected(column) for column in COLUMNS}
        for operation, row in ROWS.items()
    }
    assert asked.statuses == expected
    assert len(asked.refusals) == 1, "one 401 tells more than another"
    assert sum(asked.refusals.values()) > 100


class Asked:
    """What was answered to whom; `refusals` counts the different bodies of refused credentials."""

    def __init__(self, api: RunningApi, issuer: Issuer) -> None:
        self.api = api
        self.issuer = issuer
        self.statuses: dict[str, dict[str, int]] = {}
        self.refusals: Counter[str] = Counter()

    async def all_about(self, operation: str, route: Route, row: Row) -> None:
        """Try an operation as each caller; who may not do it must not change the job."""
        assert route.scope is not None
        bearers = await credentials(self.api.stores.keys, self.issuer, route.scope)
        assert bearers.keys() == COLUMNS.keys()
        statuses = self.statuses[operation] = {}
        untouched = await self._a_job(row)
        for column in COLUMNS:
            is_allowed = row.job is not None and row.expected(column) == row.owner
            job = await self._a_job(row) if is_allowed else untouched
            statuses[column] = await self._status(route, row, job, bearers[column])
        if untouched is not None:
            assert (await self.api.get(untouched))["status"] == row.job

    async def _a_job(self, row: Row) -> UUID | None:
        if row.job is None:
            return None
        job = await self.api.submit()
        if row.job == "failed":
            await self.api.fail(job, "PROCESSING_ERROR", "it went wrong")
        return job

    async def _status(self, route: Route, row: Row, job: UUID | None, bearer: str | None) -> int:
        path = route.path.replace("{id}", str(job) if job else row.path) + row.query
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        request = self.api.client.request(route.method, path, json=row.body, headers=headers)
        async with request as response:
            if response.status == 401:
                document = await response.json()
                assert response.headers["WWW-Authenticate"].startswith("Bearer")
                if bearer is not None:
                    self.refusals[str({**document, "instance": ""})] += 1
            return response.status


async def test_a_token_of_an_unknown_key_is_not_refused_while_its_issuer_is_away(
    api: RunningApi, issuer: Issuer
) -> None:
    issuer.is_down = True
    headers = {"Authorization": f"Bearer {issuer.token()}"}
    async with api.client.get(JOBS, headers=headers) as response:
        assert (response.status, (await response.json())["code"]) == (503, "UNAVAILABLE")
        assert int(response.headers["Retry-After"]) > 0
    assert (await api.client.get(JOBS, headers=api.sending())).status == 200
