"""Every refusal is a problem document, is logged exactly once, and brings no traceback."""

import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest

from service.domain.iterations import ITERATIONS
from tests.fixtures.api import JOBS, STORY, RunningApi
from tests.integration.api.exchanges import Log, exchange, logged, refusal


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with logged(monkeypatch, caplog) as hearing:
        yield hearing


async def post(api: RunningApi, log: Log, **submission: Any) -> Any:
    """Submit what must be refused."""
    document = {"story": STORY, **submission}
    return await refusal(api, log, "POST", JOBS, json=document, headers=api.sending())


async def test_without_a_key(api: RunningApi, log: Log) -> None:
    answer = await refusal(api, log, "GET", JOBS)
    assert (answer.status, answer.document["code"]) == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.line["tenant"] is None


async def test_with_a_key_that_nobody_made(api: RunningApi, log: Log) -> None:
    headers = api.sending("usa_01234567_made-up")
    answer = await refusal(api, log, "GET", JOBS, headers=headers)
    assert (answer.status, answer.document["code"]) == (401, "UNAUTHORIZED")


async def test_with_a_key_that_may_only_read(api: RunningApi, log: Log) -> None:
    headers = api.sending(api.keys.alice_reads)
    answer = await refusal(api, log, "POST", JOBS, json={"story": STORY}, headers=headers)
    assert (answer.status, answer.document["code"]) == (403, "FORBIDDEN")
    assert "jobs:write" in answer.document["detail"]
    assert answer.line["tenant"] == "acme"


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("DELETE", ""), ("GET", "/stream")])
@pytest.mark.parametrize("who", ["mallory", "bob"])
async def test_another_ones_job_is_as_unknown_as_none(
    api: RunningApi, log: Log, method: str, suffix: str, who: str
) -> None:
    job = await api.submit()
    headers = api.sending(getattr(api.keys, who))
    foreign = await refusal(api, log, method, f"{JOBS}/{job}{suffix}", headers=headers)
    missing = await refusal(api, log, method, f"{JOBS}/{uuid4()}{suffix}", headers=headers)
    assert (foreign.status, foreign.document["code"]) == (404, "NOT_FOUND")
    assert {**foreign.document, "instance": ""} == {**missing.document, "instance": ""}
    assert (await api.get(job))["status"] == "queued"


@pytest.mark.parametrize("text", ["x", "%00", "%ff", "1" * 2000])
async def test_what_is_no_id_at_all(api: RunningApi, log: Log, text: str) -> None:
    answer = await exchange(api, log, "GET", f"{JOBS}/{text}", headers=api.sending())
    assert (answer.status, answer.document["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(("key", "limit"), [("alice", 51_200), ("free", 10_240)])
async def test_a_story_of_100_kb(api: RunningApi, log: Log, key: str, limit: int) -> None:
    answer = await refusal(
        api,
        log,
        "POST",
        JOBS,
        json={"story": "x" * 100_000},
        headers=api.sending(getattr(api.keys, key)),
    )
    assert (answer.status, answer.document["code"]) == (413, "STORY_TOO_LARGE")
    assert answer.document["maxBytes"] == limit


async def test_a_story_is_measured_in_bytes(api: RunningApi, log: Log) -> None:
    assert (await post(api, log, story="ä" * 25_601)).status == 413
    await api.submit(story="ä" * 25_600)


async def test_a_body_larger_than_any_story(api: RunningApi, log: Log) -> None:
    headers = api.sending(**{"Content-Type": "application/json"})
    body = BytesIO(b'{"story": "%s"}' % (b"x" * 5_000_000))
    answer = await refusal(api, log, "POST", JOBS, data=body, headers=headers)
    assert (answer.status, answer.document["code"]) == (413, "STORY_TOO_LARGE")
    assert answer.document["maxBytes"] == 51_200


async def test_a_body_that_unpacks_to_more_than_any_story(api: RunningApi, log: Log) -> None:
    packed = zlib.compress(b'{"story":"' + b"x" * 50_000_000 + b'"}')
    headers = api.sending(**{"Content-Encoding": "deflate", "Content-Type": "application/json"})
    answer = await refusal(api, log, "POST", JOBS, data=packed, headers=headers)
    assert (answer.status, answer.document["code"]) == (413, "STORY_TOO_LARGE")


async def test_an_unknown_iteration(api: RunningApi, log: Log) -> None:
    answer = await post(api, log, iterations=["validation", "poetry"])
    assert (answer.status, answer.document["code"]) == (400, "UNKNOWN_ITERATION")
    [error] = answer.document["errors"]
    assert error["field"] == "iterations[1]"
    assert all(iteration in error["message"] for iteration in ITERATIONS)


async def test_more_iterations_than_the_tier_allows(api: RunningApi, log: Log) -> None:
    headers = api.sending(api.keys.free)
    body = {"story": STORY, "iterations": ["user-roles", "validation", "security", "performance"]}
    answer = await refusal(api, log, "POST", JOBS, json=body, headers=headers)
    assert (answer.status, answer.document["code"]) == (400, "TOO_MANY_ITERATIONS")
    assert answer.document["maxIterations"] == 3


async def test_a_workflow_that_runs_more_than_the_tier_allows(api: RunningApi, log: Log) -> None:
    headers = api.sending(api.keys.free)
    body = {"story": STORY, "mode": "workflow", "options": {"productType": "web"}}
    answer = await refusal(api, log, "POST", JOBS, json=body, headers=headers)
    assert answer.document["code"] == "TOO_MANY_ITERATIONS"


async def test_an_unknown_model(api: RunningApi, log: Log) -> None:
    answer = await post(api, log, options={"model": "gpt-2"})
    assert (answer.status, answer.document["code"]) == (400, "UNKNOWN_MODEL")
    assert [error["field"] for error in answer.document["errors"]] == ["options.model"]


async def test_an_unknown_agent(api: RunningApi, log: Log) -> None:
    answer = await post(api, log, agent="smith")
    assert (answer.status, answer.document["code"]) == (400, "VALIDATION_ERROR")
    [error] = answer.document["errors"]
    assert error["field"] == "agent"
    assert "user-story" in error["message"]


@pytest.mark.parametrize(
    ("submission", "field"),
    [
        ({"story": ""}, "story"),
        ({"story": " \n\t"}, "story"),
        ({"story": None}, "story"),
        ({"iterations": []}, "iterations"),
        ({"iterations": ["security", "security"]}, "iterations[1]"),
        ({"mode": "workflow"}, "options.productType"),
        ({"options": {"verify": "yes"}}, "options.verify"),
        ({"options": {"productType": "tv"}}, "options.productType"),
        ({"options": {"deadlineSeconds": -1}}, "options.deadlineSeconds"),
        ({"options": {"surprise": 1}}, "options.surprise"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_a_bad_field(
    api: RunningApi, log: Log, submission: dict[str, Any], field: str
) -> None:
    answer = await post(api, log, **submission)
    assert (answer.status, answer.document["code"]) == (400, "VALIDATION_ERROR")
    assert [error["field"] for error in answer.document["errors"]] == [field]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'story': 'x'}",
        b"[]",
        b'{"story": NaN}',
        b'{"story": "\xff"}',
        rb'{"story": "\ud800"}',
        rb'{"story": "\u0000"}',
        b'{"story": "a", "story": "b"}',
        b'{"story": "a", "options": {"deadlineSeconds": 1e999}}',
    ],
)
async def test_invalid_json(api: RunningApi, log: Log, body: bytes) -> None:
    headers = api.sending(**{"Content-Type": "application/json"})
    answer = await refusal(api, log, "POST", JOBS, data=body, headers=headers)
    assert (answer.status, answer.document["code"]) == (400, "VALIDATION_ERROR")


async def test_a_body_that_is_not_packed_the_way_it_says(api: RunningApi, log: Log) -> None:
    headers = api.sending(**{"Content-Encoding": "gzip", "Content-Type": "application/json"})
    answer = await refusal(api, log, "POST", JOBS, data=b"no gzip", headers=headers)
    assert (answer.status, answer.document["code"]) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "text/plain", "x"])
async def test_another_media_type(api: RunningApi, log: Log, media_type: str) -> None:
    headers = api.sending(**{"Content-Type": media_type})
    answer = await refusal(api, log, "POST", JOBS, data=b'{"story": "x"}', headers=headers)
    assert (answer.status, answer.document["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_an_idempotency_key_that_is_none(api: RunningApi, log: Log) -> None:
    headers = api.sending(**{"Idempotency-Key": "two words"})
    answer = await refusal(api, log, "POST", JOBS, json={"story": STORY}, headers=headers)
    assert [error["field"] for error in answer.document["errors"]] == ["Idempotency-Key"]


@pytest.mark.parametrize(
    ("query", "field"),
    [("wait=61", "wait"), ("limit=0", "limit"), ("status=done", "status"), ("cursor=x", "cursor")],
)
async def test_a_bad_query(api: RunningApi, log: Log, query: str, field: str) -> None:
    path = f"{JOBS}/{uuid4()}" if field == "wait" else JOBS
    answer = await refusal(api, log, "GET", f"{path}?{query}", headers=api.sending())
    assert (answer.status, answer.document["code"]) == (400, "VALIDATION_ERROR")
    assert [error["field"] for error in answer.document["errors"]] == [field]


async def test_cancelling_what_has_ended(api: RunningApi, log: Log) -> None:
    done, failed = await api.submit(), await api.submit()
    await api.complete(done, {"markdown": "# Done"})
    await api.fail(failed, "MODEL_REFUSED", "no")
    for job in (done, failed):
        answer = await refusal(api, log, "DELETE", f"{JOBS}/{job}", headers=api.sending())
        assert (answer.status, answer.document["code"]) == (409, "JOB_FINISHED")
    assert (await api.get(done))["status"] == "completed"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nowhere"), ("GET", "/api/v1/nowhere"), ("GET", JOBS + "/"), ("POST", "/api/v1")],
)
async def test_a_place_that_does_not_exist(
    api: RunningApi, log: Log, method: str, path: str
) -> None:
    answer = await refusal(api, log, method, path, headers=api.sending())
    assert (answer.status, answer.document["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", JOBS, {"GET", "HEAD", "POST"}),
        ("PATCH", f"{JOBS}/x", {"GET", "HEAD", "DELETE"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("OPTIONS", JOBS, {"GET", "HEAD", "POST"}),
    ],
)
async def test_a_method_that_does_not_exist(
    api: RunningApi, log: Log, method: str, path: str, allowed: set[str]
) -> None:
    answer = await refusal(api, log, method, path, headers=api.sending())
    assert (answer.status, answer.document["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["Allow"].split(",")) == allowed


async def test_an_unknown_iteration_by_its_address(api: RunningApi, log: Log) -> None:
    answer = await refusal(api, log, "GET", "/api/v1/iterations/poetry", headers=api.sending())
    assert (answer.status, answer.document["code"]) == (404, "NOT_FOUND")
