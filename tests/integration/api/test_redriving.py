"""Redriving a job over HTTP, and everybody's failed jobs for those who operate the queue."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from service.api.dead_letter_documents import DeadLetterList, RedriveReport
from service.domain.attempt import Fence
from service.domain.events import BEGINNING, EventId
from service.domain.transitions import Fail
from service.streams import keys as stream_keys
from tests.fixtures.api import JOBS, RunningApi
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import a_delivery, terms
from tests.fixtures.waiting import eventually
from tests.integration.api.exchanges import Log, exchange, logged, refusal

DEAD_LETTERS = "/api/v1/admin/dead-letters"
CANARY = "As a spy, I want my canary 7f3a kept secret"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with logged(monkeypatch, caplog) as hearing:
        yield hearing


async def failed(api: RunningApi, key: str | None = None, code: str = "MODEL_REFUSED") -> UUID:
    """A job that failed, its end told."""
    job = await api.submit(key, story=CANARY)
    await _rung_for(api, job)
    await api.fail(job, code, "the model refused")
    ended = await api.stores.attempts.get(job)
    assert ended is not None
    final = EventId.parse(ended.final_event_id or "")
    assert final is not None
    await api.stores.attempts.clear_event_pending(job, final)
    return job


async def _rung_for(api: RunningApi, job: UUID) -> None:
    """Return when the entry of its acceptance is noted, and cannot come later."""

    async def is_noted() -> bool:
        fence = (await api.stores.attempts.read_fences([job]))[job]
        return fence.entry_id is not None

    await eventually(is_noted, what="the entry is noted")


async def redrive(api: RunningApi, job: UUID, key: str | None = None) -> dict[str, Any]:
    """Redrive a job, which must work."""
    path = f"{JOBS}/{job}/redrive"
    async with api.client.post(path, headers=api.sending(key)) as response:
        assert response.status == 202, await response.text()
        document: dict[str, Any] = await response.json()
        return document


async def entries_of(api: RunningApi, job: UUID) -> list[str]:
    """The job's entries in the stream that is read first."""
    entries: Any = await api.redis.xrange(stream_keys.AGAIN)
    return [
        entry_id.decode() for entry_id, fields in entries if fields[b"job"] == str(job).encode()
    ]


async def rung_for_again(api: RunningApi, job: UUID) -> list[str]:
    """The job's entries in that stream, once there is one."""
    return await eventually(lambda: entries_of(api, job), what="it is rung for")


async def test_a_failed_job_is_queued_again_told_and_rung_for(
    api: RunningApi, observer: Observer
) -> None:
    job = await failed(api)
    path = f"{JOBS}/{job}"

    async with api.client.post(f"{path}/redrive", headers=api.sending()) as response:
        assert response.status == 202
        assert response.headers["Location"] == path
        assert response.headers["Retry-After"] == "2"
        document = await response.json()

    assert document["links"] == {"self": path, "stream": f"{path}/stream"}
    accepted = await api.get(job)
    receipt = {name: accepted[name] for name in document["job"]}
    assert document["job"] == receipt
    assert set(receipt) == {"id", "status", "mode", "iterations", "createdAt"}
    assert (accepted["status"], accepted["attempt"], accepted["error"]) == ("queued", 2, None)
    assert accepted["completedAt"] is None
    [entry] = await rung_for_again(api, job)
    [event] = await api.events.read_after(job, BEGINNING, 10)
    assert (str(event.id), event.type) == ("2-1", "retrying")
    assert b'"code":"REDRIVEN"' in event.data

    async def is_noted() -> bool:
        return bool(await observer.value("SELECT entry_id FROM jobs WHERE id = $1", job) == entry)

    await eventually(is_noted, what="the entry is noted")


async def test_it_runs_to_a_new_end(api: RunningApi) -> None:
    job = await failed(api)
    await redrive(api, job)

    await api.complete(job, {"markdown": "# Story"})

    document = await api.get(job)
    assert (document["status"], document["attempt"]) == ("completed", 3)
    assert (document["result"], document["error"]) == ({"markdown": "# Story"}, None)


async def test_whoever_waits_for_a_redriven_job_waits_for_its_new_end(api: RunningApi) -> None:
    job = await failed(api)
    await redrive(api, job)
    waiting = api.stores.background.spawn("wait", api.get(f"{job}?wait=20"))
    await eventually(lambda: api.waited_for == {job}, what="somebody waits")
    assert not waiting.done()

    await api.complete(job, {"n": 1})

    assert (await waiting)["status"] == "completed"


@pytest.mark.parametrize("status", ["queued", "processing", "completed", "cancelled"])
async def test_only_a_failed_job_is_redriven(api: RunningApi, log: Log, status: str) -> None:
    job = await api.submit()
    match status:
        case "processing":
            await api.claim(job)
        case "completed":
            await api.complete(job, {})
        case "cancelled":
            await api.stores.jobs.cancel_owned(job, "acme", "alice")
    before = await api.get(job)

    answer = await refusal(api, log, "POST", f"{JOBS}/{job}/redrive", headers=api.sending())

    assert (answer.status, answer.document["code"]) == (409, "JOB_NOT_FAILED")
    assert status in answer.document["detail"]
    assert await api.get(job) == before


async def test_redriving_it_again_is_refused_while_it_is_queued(api: RunningApi, log: Log) -> None:
    job = await failed(api)
    await redrive(api, job)

    answer = await refusal(api, log, "POST", f"{JOBS}/{job}/redrive", headers=api.sending())

    assert (answer.status, answer.document["code"]) == (409, "JOB_NOT_FAILED")
    assert (await api.get(job))["attempt"] == 2


@pytest.mark.parametrize("who", ["mallory", "bob"])
async def test_another_ones_failed_job_is_as_unknown_as_none(
    api: RunningApi, log: Log, who: str
) -> None:
    job, headers = await failed(api), api.sending(getattr(api.keys, who))

    foreign = await refusal(api, log, "POST", f"{JOBS}/{job}/redrive", headers=headers)
    missing = await refusal(api, log, "POST", f"{JOBS}/{uuid4()}/redrive", headers=headers)

    assert (foreign.status, foreign.document["code"]) == (404, "NOT_FOUND")
    assert {**foreign.document, "instance": ""} == {**missing.document, "instance": ""}
    assert (await api.get(job))["status"] == "failed"


async def test_a_key_of_the_tenant_redrives_the_jobs_of_all_its_users(api: RunningApi) -> None:
    job = await failed(api)
    assert (await redrive(api, job, api.keys.tenant))["job"]["status"] == "queued"


@pytest.mark.parametrize("who", ["alice_reads", "admin"])
async def test_redriving_a_job_takes_a_key_that_may_write_jobs(
    api: RunningApi, log: Log, who: str
) -> None:
    job = await failed(api)
    headers = api.sending(getattr(api.keys, who))

    answer = await refusal(api, log, "POST", f"{JOBS}/{job}/redrive", headers=headers)

    assert (answer.status, answer.document["code"]) == (403, "FORBIDDEN")
    assert "jobs:write" in answer.document["detail"]


async def test_an_admin_key_reads_no_jobs(api: RunningApi, log: Log) -> None:
    job = await failed(api)
    for path in (JOBS, f"{JOBS}/{job}", f"{JOBS}/{job}/stream"):
        answer = await refusal(api, log, "GET", path, headers=api.sending(api.keys.admin))
        assert answer.status == 403


@pytest.mark.parametrize("who", ["alice", "tenant"])
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("POST", "/redrive")])
async def test_operating_the_queue_takes_an_admin_key(
    api: RunningApi, log: Log, who: str, method: str, suffix: str
) -> None:
    headers = api.sending(getattr(api.keys, who))

    answer = await refusal(api, log, method, DEAD_LETTERS + suffix, headers=headers)

    assert (answer.status, answer.document["code"]) == (403, "FORBIDDEN")
    assert "admin" in answer.document["detail"]


async def dead_letters(api: RunningApi, query: str = "") -> dict[str, Any]:
    """A page of failed jobs."""
    url, headers = f"{DEAD_LETTERS}?{query}", api.sending(api.keys.admin)
    async with api.client.get(url, headers=headers) as response:
        assert response.status == 200, await response.text()
        document: dict[str, Any] = await response.json()
        DeadLetterList.model_validate(document)
        return document


async def test_dead_letters_are_those_of_all_tenants(api: RunningApi) -> None:
    await api.submit()
    alices = await failed(api)
    mallorys = await failed(api, api.keys.mallory, "PROCESSING_ERROR")

    [newer, older] = (await dead_letters(api))["deadLetters"]

    assert [newer["id"], older["id"]] == [str(mallorys), str(alices)]
    assert (newer["tenantId"], newer["userId"]) == ("rival", "mallory")
    assert older["error"] == {
        "code": "MODEL_REFUSED",
        "message": "the model refused",
        "retryable": False,
    }
    assert set(older) == {
        *("id", "tenantId", "userId", "agent", "error", "attempt", "errorCount", "crashCount"),
        *("handbackCount", "createdAt", "failedAt"),
    }
    assert older["createdAt"] < older["failedAt"]


async def test_dead_letters_come_by_code_and_page_by_page(api: RunningApi) -> None:
    jobs = [await failed(api) for _ in range(3)]
    other = await failed(api, code="PROCESSING_ERROR")

    first = await dead_letters(api, "code=MODEL_REFUSED&limit=2")
    await failed(api)
    rest = await dead_letters(api, f"code=MODEL_REFUSED&limit=2&cursor={first['nextCursor']}")

    found = [letter["id"] for page in (first, rest) for letter in page["deadLetters"]]
    assert found == [str(job) for job in jobs[::-1]]
    assert rest["nextCursor"] is None
    [letter] = (await dead_letters(api, "code=PROCESSING_ERROR"))["deadLetters"]
    assert letter["id"] == str(other)
    assert (await dead_letters(api, "code=NOBODY_FAILED_SO"))["deadLetters"] == []


async def test_no_dead_letter_shows_what_a_job_is_about(api: RunningApi, log: Log) -> None:
    job = await failed(api)
    headers = api.sending(api.keys.admin)

    listed = await exchange(api, log, "GET", DEAD_LETTERS, headers=headers)
    body = {"ids": [str(job)]}
    sent = await exchange(api, log, "POST", f"{DEAD_LETTERS}/redrive", json=body, headers=headers)

    assert str(job).encode() in listed.body
    assert str(job).encode() in sent.body
    for answer in (listed, sent):
        assert b"canary" not in answer.body


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("cursor=x", "cursor"),
        ("code=no%20code", "code"),
    ],
)
async def test_a_bad_question_names_its_field(
    api: RunningApi, log: Log, query: str, field: str
) -> None:
    headers = api.sending(api.keys.admin)
    answer = await refusal(api, log, "GET", f"{DEAD_LETTERS}?{query}", headers=headers)
    assert (answer.status, answer.document["code"]) == (400, "VALIDATION_ERROR")
    assert [error["field"] for error in answer.document["errors"]] == [field]


async def redrive_many(api: RunningApi, **order: Any) -> dict[str, Any]:
    """Redrive as an operator."""
    headers = api.sending(api.keys.admin)
    async with api.client.post(f"{DEAD_LETTERS}/redrive", json=order, headers=headers) as response:
        assert response.status == 202, await response.text()
        document: dict[str, Any] = await response.json()
        RedriveReport.model_validate(document)
        return document


async def test_named_jobs_are_redriven_and_the_others_told_apart(api: RunningApi) -> None:
    alices, mallorys = await failed(api), await failed(api, api.keys.mallory)
    running, missing = await api.submit(), uuid4()
    await api.claim(running)
    ids = [str(each) for each in (alices, running, missing, mallorys)]

    report = await redrive_many(api, ids=ids)

    assert set(report["redriven"]) == {str(alices), str(mallorys)}
    assert report["refused"] == [
        {
            "id": str(running),
            "code": "JOB_NOT_FAILED",
            "detail": "only failed jobs can be redriven: this one is processing",
        },
        {"id": str(missing), "code": "NOT_FOUND", "detail": "there is no such job"},
    ]
    for job in (alices, mallorys):
        await rung_for_again(api, job)
        [event] = await api.events.read_after(job, BEGINNING, 10)
        assert (str(event.id), event.type) == ("2-1", "retrying")


async def test_jobs_of_one_code_are_redriven_as_many_as_asked_for(api: RunningApi) -> None:
    jobs = [await failed(api) for _ in range(3)]
    other = await failed(api, code="PROCESSING_ERROR")

    report = await redrive_many(api, code="MODEL_REFUSED", limit=2)
    assert set(report["redriven"]) == {str(job) for job in jobs[:2]}
    assert report["refused"] == []
    assert (await redrive_many(api, code="MODEL_REFUSED"))["redriven"] == [str(jobs[2])]
    assert (await redrive_many(api, code="MODEL_REFUSED"))["redriven"] == []

    assert (await api.get(other))["status"] == "failed"


_ID = "01a21088-29e1-77e7-bdbc-91ca6407d65d"


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({}, "ids"),
        ({"ids": [_ID], "code": "MODEL_REFUSED"}, "ids"),
        ({"ids": []}, "ids"),
        ({"ids": [_ID] * 101}, "ids"),
        ({"ids": ["x"]}, "ids[0]"),
        ({"ids": _ID}, "ids"),
        ({"code": "a code"}, "code"),
        ({"code": "MODEL_REFUSED", "limit": 0}, "limit"),
        ({"code": "MODEL_REFUSED", "limit": 101}, "limit"),
        ({"code": "MODEL_REFUSED", "limit": "2"}, "limit"),
        ({"all": True}, "all"),
    ],
)
async def test_an_order_that_is_none_is_refused_and_redrives_nothing(
    api: RunningApi, log: Log, order: dict[str, Any], field: str
) -> None:
    job, headers = await failed(api), api.sending(api.keys.admin)

    answer = await refusal(api, log, "POST", f"{DEAD_LETTERS}/redrive", json=order, headers=headers)

    assert (answer.status, answer.document["code"]) == (400, "VALIDATION_ERROR")
    assert [error["field"] for error in answer.document["errors"]] == [field]
    assert (await api.get(job))["status"] == "failed"


async def test_every_failure_has_a_message_that_quotes_no_story(
    api: RunningApi, stores: Stores, observer: Observer
) -> None:
    """Those of Postgres' own statements; those of agents have tests where they are made."""
    lost, late = await api.submit(story=CANARY), await api.submit(story=CANARY)
    await stores.attempts.claim([a_delivery(lost)], terms(max_crashes=1))
    await observer.run(
        "UPDATE jobs SET lease_until = clock_timestamp() - interval '1 minute' WHERE id = $1", lost
    )
    await stores.upkeep.recover_if_expired([Fence(lost, 1)], 1)
    await observer.run("UPDATE jobs SET deadline_at = clock_timestamp() WHERE id = $1", late)
    await stores.upkeep.fail_overdue(10)

    letters = (await dead_letters(api))["deadLetters"]

    assert {letter["error"]["code"] for letter in letters} == {"WORKER_LOST", "DEADLINE_EXCEEDED"}
    assert not any("canary" in letter["error"]["message"] for letter in letters)


async def test_a_retryable_failure_says_so(api: RunningApi, stores: Stores) -> None:
    claim = await api.claim(await api.submit())
    failure = Fail("ATTEMPTS_EXHAUSTED", "gave up", retryable=True)
    await stores.attempts.record_if_current(claim.fence, failure, EventId(1, 1))

    [letter] = (await dead_letters(api))["deadLetters"]

    assert letter["error"]["retryable"] is True
    assert letter["errorCount"] == 1
