"""What machines and people ask of the service itself, and what every answer carries."""

import asyncio
import re
from collections.abc import Iterator

import pytest

from service.api.documents import IterationDocument, IterationList
from service.telemetry.metrics import HTTP_SECONDS
from tests.fixtures.api import JOBS, RunningApi, running_api
from tests.fixtures.database import Stores
from tests.fixtures.waiting import eventually
from tests.integration.api.exchanges import Log, assert_protected, exchange, logged, refusal


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with logged(monkeypatch, caplog) as hearing:
        yield hearing


async def test_whoever_opens_the_address_learns_where_to_go_on(api: RunningApi, log: Log) -> None:
    entry = (await exchange(api, log, "GET", "/")).document
    assert (entry["name"], entry["version"]) == ("user-story-service", "1.2.3")
    for path in entry["links"].values():
        answer = await exchange(api, log, "GET", path, headers=api.sending())
        assert answer.status == 200, path


async def test_the_version_says_who_writes(stores: Stores, redis_url: str, log: Log) -> None:
    async with running_api(stores, redis_url, offline=True) as offline:
        document = (await exchange(offline, log, "GET", "/version")).document
    assert document == {"name": "user-story-service", "version": "1.2.3", "offline": True}


async def test_one_that_leaves_answers_and_sends_its_clients_elsewhere(
    stores: Stores, redis_url: str, log: Log
) -> None:
    async with running_api(stores, redis_url, is_leaving=lambda: True) as leaving:
        job_id = await leaving.submit()
        answer = await exchange(leaving, log, "GET", f"{JOBS}/{job_id}", headers=leaving.sending())
        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        ready = await exchange(leaving, log, "GET", "/readyz")
        assert (ready.status, ready.document["status"]) == (503, "draining")
        assert ready.document["checks"] == {"postgres": "ok", "redis": "ok"}


async def test_the_description_is_served(api: RunningApi, log: Log) -> None:
    answer = await exchange(api, log, "GET", "/openapi.json")
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.document["info"]["version"] == "1.2.3"
    assert JOBS in answer.document["paths"]


async def test_iterations_are_served_to_whoever_may_read(api: RunningApi, log: Log) -> None:
    headers = api.sending(api.keys.alice_reads)
    answer = await exchange(api, log, "GET", "/api/v1/iterations?productType=api", headers=headers)
    listed = IterationList.model_validate(answer.document).iterations
    path = f"/api/v1/iterations/{listed[0].id}"
    one = await exchange(api, log, "GET", path, headers=headers)
    assert IterationDocument.model_validate(one.document) == listed[0]
    assert (await refusal(api, log, "GET", "/api/v1/iterations")).status == 401


async def test_metrics_are_served_here_only_where_that_is_wanted(
    stores: Stores, redis_url: str, log: Log
) -> None:
    async with running_api(stores, redis_url, serve_metrics=True) as serving:
        await serving.submit()
        answer = await exchange(serving, log, "GET", "/metrics")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert b"usa_jobs_accepted_total " in answer.body
        assert (await exchange(serving, log, "HEAD", "/metrics")).status == 200


async def test_elsewhere_there_are_none(api: RunningApi, log: Log) -> None:
    assert (await refusal(api, log, "GET", "/metrics")).status == 404


async def test_probes_are_not_worth_a_line_while_all_is_well(api: RunningApi, log: Log) -> None:
    for path in ("/healthz", "/readyz", "/health", "/ready"):
        assert (await exchange(api, log, "GET", path)).line["log_level"] == "debug"
    assert (await exchange(api, log, "GET", "/version")).line["log_level"] == "info"


# --- every answer ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/healthz", "/nowhere", JOBS, JOBS + "/{}/stream"])
async def test_every_answer_carries_what_protects_its_reader(api: RunningApi, path: str) -> None:
    job = await api.submit()
    await api.client.delete(f"{JOBS}/{job}", headers=api.sending())
    url, headers = path.format(job), api.sending()
    async with api.client.get(url, headers=headers) as response:
        sent = response.headers
        assert_protected(sent)
        assert sent["Cache-Control"].startswith("no-store")


@pytest.mark.parametrize("given", ["abc-123", "a" * 128, "A.b_c:d-e"])
async def test_a_request_keeps_its_id(api: RunningApi, log: Log, given: str) -> None:
    for path in ("/", "/nowhere"):
        answer = await exchange(api, log, "GET", path, headers={"X-Request-ID": given})
        assert answer.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", "ä", 'x"}{'])
async def test_an_id_that_could_do_harm_is_replaced(api: RunningApi, log: Log, given: str) -> None:
    answer = await exchange(api, log, "GET", "/", headers={"X-Request-ID": given})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])


async def test_requests_are_counted_by_route_and_not_by_address(api: RunningApi, log: Log) -> None:
    job = await api.submit()
    for path in (f"{JOBS}/{job}", f"{JOBS}/nonsense", "/nowhere"):
        await exchange(api, log, "GET", path, headers=api.sending())
    counted = {
        tuple(sample.labels.values())
        for family in HTTP_SECONDS.collect()
        for sample in family.samples
        if sample.name.endswith("_count")
    }
    assert {
        ("GET", JOBS + "/{id}", "200"),
        ("GET", JOBS + "/{id}", "404"),
        ("GET", "unmatched", "404"),
    } <= counted
    assert not [labels for labels in counted if str(job) in "".join(labels)]


async def test_neither_keys_nor_stories_are_logged(api: RunningApi, log: Log) -> None:
    secret = "canary-story"
    job = await api.submit(story=secret)
    await exchange(api, log, "GET", f"{JOBS}/{job}", headers=api.sending())
    body = {"story": secret, "mode": secret}
    await refusal(api, log, "POST", JOBS, json=body, headers=api.sending())
    await refusal(api, log, "GET", JOBS, headers=api.sending(api.keys.alice + "x"))
    written = repr(log.lines) + repr([record.__dict__ for record in log.library.records])
    assert secret not in written
    assert api.keys.alice.split("_", 2)[2] not in written


# --- browsers --------------------------------------------------------------------------------


async def test_a_listed_browser_may_call_and_read_even_errors(
    stores: Stores, redis_url: str, log: Log
) -> None:
    origin = "https://app.example"
    async with running_api(stores, redis_url, cors_origins=(origin,)) as api:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        preflight = await exchange(api, log, "OPTIONS", JOBS, headers=asked)
        assert (preflight.status, preflight.body) == (204, b"")
        assert preflight.headers["Access-Control-Allow-Origin"] == origin
        answer = await refusal(api, log, "GET", JOBS, headers={"Origin": origin})
        assert answer.status == 401
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        foreign = {**asked, "Origin": "https://evil.example"}
        answer = await refusal(api, log, "OPTIONS", JOBS, headers=foreign)
        assert answer.status == 405
        assert "Access-Control-Allow-Origin" not in answer.headers


# --- shutdown --------------------------------------------------------------------------------


async def test_a_shutdown_answers_those_who_wait(api: RunningApi) -> None:
    job = await api.submit()
    waiting = asyncio.create_task(api.get(f"{job}?wait=60"))
    await eventually(lambda: api.waited_for, what="somebody waits")
    await api.app.shutdown()
    assert (await asyncio.wait_for(waiting, 5))["status"] == "queued"


async def test_a_revoked_key_is_refused_by_a_process_that_does_not_know_it_yet(
    api: RunningApi, log: Log
) -> None:
    prefix = api.keys.bob.split("_")[1]
    assert await api.stores.keys.revoke(prefix)
    headers = api.sending(api.keys.bob)
    assert (await refusal(api, log, "GET", JOBS, headers=headers)).status == 401


async def test_the_use_of_a_key_is_noted(api: RunningApi) -> None:
    await api.submit()
    prefix = api.keys.alice.split("_")[1]

    async def is_noted() -> bool:
        key = await api.stores.keys.find(prefix)
        return key is not None and key.last_used_at is not None

    await eventually(is_noted)
