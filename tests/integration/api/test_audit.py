"""Every change and every refusal is on record, once, and tells no secret."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from service.telemetry.metrics import REFUSALS
from tests.fixtures.api import JOBS, STORY, RunningApi
from tests.fixtures.waiting import eventually
from tests.integration.api.exchanges import Log, exchange, logged

REDRIVE = "/api/v1/admin/dead-letters/redrive"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with logged(monkeypatch, caplog) as hearing:
        yield hearing


def of(api: RunningApi, key: str, user: str, **others: Any) -> dict[str, Any]:
    """What is on record about somebody of Alice's tenant."""
    caller = f"key:{key.split('_')[1]}"
    return {"caller": caller, "tenant": "acme", "user": user, "code": None, **others}


def allowed(action: str, status: int) -> dict[str, Any]:
    return {"action": action, "outcome": "allowed", "status": status}


def denied(action: str, status: int, code: str) -> dict[str, Any]:
    return {"action": action, "outcome": "denied", "status": status, "code": code}


async def test_what_changes_a_job_is_on_record_with_who_did_it(api: RunningApi, log: Log) -> None:
    job = await api.submit()
    alice = of(api, api.keys.alice, "alice", job=str(job))
    await exchange(api, log, "DELETE", f"{JOBS}/{job}", headers=api.sending())
    await exchange(api, log, "DELETE", f"{JOBS}/{job}?purge=true", headers=api.sending())
    assert log.decisions() == [
        {**alice, **allowed("create_job", 202)},
        {**alice, **allowed("cancel_job", 200)},
        {**alice, **allowed("cancel_job", 200)},
    ]
    ids = [line["request_id"] for line in log.lines if line["event"] == "audit"]
    assert ids == [line["request_id"] for line in log.requests()]


async def test_what_is_refused_is_on_record_with_the_reason(api: RunningApi, log: Log) -> None:
    job = await api.submit()
    failed = await api.submit()
    await api.fail(failed, "PROCESSING_ERROR", "it went wrong")
    log.lines.clear()
    headers, body = api.sending(), {"story": STORY, "iterations": ["poetry"]}
    await exchange(api, log, "POST", JOBS, json=body, headers=headers)
    await exchange(api, log, "DELETE", f"{JOBS}/{failed}", headers=headers)
    await exchange(api, log, "DELETE", f"{JOBS}/{job}", headers=api.sending(api.keys.bob))
    await exchange(api, log, "DELETE", f"{JOBS}/x", headers=api.sending(api.keys.bob))
    alice, bob = of(api, api.keys.alice, "alice"), of(api, api.keys.bob, "bob")
    assert log.decisions() == [
        {**alice, **denied("create_job", 400, "UNKNOWN_ITERATION")},
        {**alice, **denied("cancel_job", 409, "JOB_FINISHED"), "job": str(failed)},
        {**bob, **denied("cancel_job", 404, "NOT_FOUND"), "job": str(job)},
        {**bob, **denied("cancel_job", 404, "NOT_FOUND")},
    ]


async def test_reading_is_on_record_only_if_it_is_refused(api: RunningApi, log: Log) -> None:
    job = uuid4()
    for path in ("", f"/{job}", "?limit=x"):
        await exchange(api, log, "GET", JOBS + path, headers=api.sending())
    await exchange(api, log, "GET", "/healthz")
    await exchange(api, log, "POST", "/api/v1/nothing", headers=api.sending())
    assert log.decisions() == []

    await exchange(api, log, "GET", f"{JOBS}/{job}")
    await exchange(api, log, "GET", JOBS, headers=api.sending(api.keys.admin))
    nobody = {"caller": None, "tenant": None, "user": None, "job": str(job)}
    operator = of(api, api.keys.admin, "mallory", tenant="rival")
    assert log.decisions() == [
        {**nobody, **denied("get_job", 401, "UNAUTHORIZED")},
        {**operator, **denied("list_jobs", 403, "FORBIDDEN")},
    ]


async def test_whoever_is_over_a_limit_is_on_record_and_counted(api: RunningApi, log: Log) -> None:
    refusals = REFUSALS.labels(code="CONCURRENT_JOB_LIMIT")
    before = refusals._value.get()
    await api.submit(api.keys.free)
    body, headers = {"story": STORY, "agent": "noop"}, api.sending(api.keys.free)
    answer = await exchange(api, log, "POST", JOBS, json=body, headers=headers)
    assert answer.status == 429
    who = of(api, api.keys.free, "alice")
    assert log.decisions()[1:] == [{**who, **denied("create_job", 429, "CONCURRENT_JOB_LIMIT")}]
    assert refusals._value.get() == before + 1


async def test_redriving_many_names_them_all(api: RunningApi, log: Log) -> None:
    jobs = [await api.submit() for _ in range(3)]
    for job in jobs[:2]:
        await api.fail(job, "PROCESSING_ERROR", "it went wrong")
    log.lines.clear()
    order = {"ids": [str(job) for job in jobs]}
    await exchange(api, log, "POST", REDRIVE, json=order, headers=api.sending(api.keys.admin))
    [record] = log.decisions()
    assert sorted(record.pop("jobs")) == sorted(map(str, jobs[:2]))
    operator = of(api, api.keys.admin, "mallory", tenant="rival")
    assert record == {**operator, **allowed("redrive_dead_letters", 202)}


async def test_no_record_holds_a_secret_or_a_story(api: RunningApi, log: Log) -> None:
    canary, made_up = "canary-of-a-story", "usa_01234567_canary-of-a-key"
    body = {"story": f"As a {canary}, I want to log in", "agent": "noop"}
    await exchange(api, log, "POST", JOBS, json=body, headers=api.sending())
    await exchange(api, log, "POST", JOBS, json={**body, "mode": canary}, headers=api.sending())
    await exchange(api, log, "POST", JOBS, json=body, headers=api.sending(made_up))
    await exchange(
        api, log, "POST", f"{JOBS}?story={canary}", json=body, headers={"X-API-Key": canary}
    )
    assert len(await eventually(log.decisions)) == 4
    told = str(log.decisions())
    assert "canary" not in told
    assert api.keys.alice.split("_", 2)[2] not in told
