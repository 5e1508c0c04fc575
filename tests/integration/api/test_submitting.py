"""A job is accepted once, at once, whatever becomes of its doorbell."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from service.api.documents import AcceptedJob, FinishedJob
from service.domain.iterations import DEFAULT_ITERATIONS
from service.streams import keys as stream_keys
from tests.fixtures.api import JOBS, STORY, RunningApi
from tests.fixtures.database import USER_IN_STREAM, Observer
from tests.fixtures.waiting import eventually

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def post(
    api: RunningApi,
    body: dict[str, Any],
    *,
    key: str | None = None,
    query: str = "",
    **headers: str,
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Submit, and return status, document and headers."""
    sent = api.sending(key, **{name.replace("_", "-"): text for name, text in headers.items()})
    async with api.client.post(JOBS + query, json=body, headers=sent) as response:
        return response.status, await response.json(), dict(response.headers)


async def test_a_story_alone_is_accepted(api: RunningApi) -> None:
    status, document, headers = await post(api, {"story": STORY})

    assert status == 202
    assert document.keys() == {"job", "queuePosition", "links"}
    job = document["job"]
    assert job.keys() == {"id", "status", "mode", "iterations", "createdAt"}
    assert (job["status"], job["mode"]) == ("queued", "individual")
    assert job["iterations"] == list(DEFAULT_ITERATIONS)
    age = datetime.now(UTC) - datetime.fromisoformat(job["createdAt"])
    assert abs(age.total_seconds()) < 60
    assert document["queuePosition"] == 0
    path = f"{JOBS}/{job['id']}"
    assert document["links"] == {"self": path, "stream": f"{path}/stream"}
    assert headers["Location"] == path
    assert int(headers["Retry-After"]) >= 1
    assert AcceptedJob(**document).model_dump(mode="json", by_alias=True) == document


async def test_ids_sort_by_the_time_they_were_given(api: RunningApi) -> None:
    ids = [await api.submit() for _ in range(5)]
    assert [job.version for job in ids] == [7] * 5
    assert len(set(ids)) == 5
    assert ids[0].int >> 80 <= ids[-1].int >> 80


async def test_the_place_in_the_queue_counts_all_that_wait(api: RunningApi) -> None:
    await api.submit()
    await api.submit(api.keys.mallory)
    _, document, _ = await post(api, {"story": STORY})
    assert document["queuePosition"] == 2


async def test_everything_given_is_stored(api: RunningApi, observer: Observer) -> None:
    body = {
        "story": STORY,
        "iterations": ["security", "validation"],
        "options": {
            "quality": "fast",
            "verify": False,
            "deadlineSeconds": 120,
            "productContext": {"name": "Bank \U0001f600"},
        },
    }
    _, document, _ = await post(api, body, traceparent=TRACE, X_Request_ID="abc-123")

    row = await observer.row("SELECT * FROM jobs WHERE id = $1", UUID(document["job"]["id"]))
    assert (row["tenant_id"], row["user_id"]) == ("acme", "alice")
    assert (row["agent"], row["mode"], row["story"]) == ("user-story", "individual", STORY)
    assert row["iterations"] == ["validation", "security"]
    assert (row["trace_parent"], row["request_id"]) == (TRACE, "abc-123")
    assert (row["deadline_at"] - row["created_at"]).total_seconds() == pytest.approx(120, abs=1)
    assert row["reserved_tokens"] > 1000
    shown = await api.get(document["job"]["id"])
    assert shown["options"]["productContext"] == {"name": "Bank \U0001f600"}


async def test_the_doorbell_rings_and_is_noted(api: RunningApi, observer: Observer) -> None:
    job = await api.submit(headers={"traceparent": TRACE})

    entry_id = await eventually(
        lambda: observer.value("SELECT entry_id FROM jobs WHERE id = $1", job),
        what="the entry is noted",
    )
    entries: Any = await api.redis.xrange(stream_keys.JOBS)
    [(found, fields)] = entries
    assert found.decode() == entry_id
    assert fields == {b"job": str(job).encode(), b"trace": TRACE.encode()}


async def test_a_users_backlog_waits_in_postgres(api: RunningApi, observer: Observer) -> None:
    for _ in range(USER_IN_STREAM + 3):
        await api.submit()
    query = "SELECT count(*) FROM jobs WHERE entry_id IS NOT NULL"
    assert await eventually(lambda: _equals(observer, query, USER_IN_STREAM))
    assert await api.redis.xlen(stream_keys.JOBS) == USER_IN_STREAM
    await api.submit(api.keys.mallory)
    assert await eventually(lambda: _equals(observer, query, USER_IN_STREAM + 1))


async def _equals(observer: Observer, query: str, expected: int) -> bool:
    return await observer.value(query) == expected


async def test_a_key_in_either_header_submits(api: RunningApi) -> None:
    headers = {"X-API-Key": api.keys.alice}
    async with api.client.post(JOBS, json={"story": STORY}, headers=headers) as response:
        assert response.status == 202


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", None])
async def test_json_is_taken_for_json(api: RunningApi, content_type: str | None) -> None:
    headers = api.sending(**({} if content_type is None else {"Content-Type": content_type}))
    skipped = ("Content-Type",) if content_type is None else ()
    async with api.client.post(
        JOBS, data=b'{"story": "x"}', headers=headers, skip_auto_headers=skipped
    ) as response:
        assert response.status == 202, await response.text()


# --- once ------------------------------------------------------------------------------------


async def test_the_same_submission_under_the_same_key_is_the_same_job(
    api: RunningApi, observer: Observer
) -> None:
    _, first, _ = await post(api, {"story": STORY, "agent": "noop"}, Idempotency_Key="k")
    status, again, headers = await post(api, {"agent": "noop", "story": STORY}, Idempotency_Key="k")
    assert status == 202
    assert again["job"] == first["job"]
    assert headers["Location"] == first["links"]["self"]
    assert await observer.value("SELECT count(*) FROM jobs") == 1


async def test_another_submission_under_the_same_key_is_refused(
    api: RunningApi, observer: Observer
) -> None:
    await post(api, {"story": STORY}, Idempotency_Key="k")
    status, problem, _ = await post(api, {"story": STORY + "."}, Idempotency_Key="k")
    assert (status, problem["code"]) == (422, "IDEMPOTENCY_CONFLICT")
    assert await observer.value("SELECT count(*) FROM jobs") == 1


async def test_keys_of_others_are_other_keys(api: RunningApi) -> None:
    submissions = [
        await post(api, {"story": f"{STORY} {key}"}, key=key, Idempotency_Key="k")
        for key in (api.keys.alice, api.keys.bob, api.keys.mallory)
    ]
    assert [status for status, _, _ in submissions] == [202] * 3
    assert len({document["job"]["id"] for _, document, _ in submissions}) == 3


async def test_without_a_key_every_submission_is_a_job(api: RunningApi) -> None:
    assert len({await api.submit() for _ in range(3)}) == 3


async def test_twenty_at_once_under_one_key_are_one_job(
    api: RunningApi, observer: Observer
) -> None:
    body = {"story": STORY, "agent": "noop"}
    answers = await asyncio.gather(*(post(api, body, Idempotency_Key="k") for _ in range(20)))
    assert {status for status, _, _ in answers} == {202}
    assert len({document["job"]["id"] for _, document, _ in answers}) == 1
    assert await observer.value("SELECT count(*) FROM jobs") == 1
    assert await observer.value("SELECT sum(request_count) FROM daily_usage") == 1


async def test_a_repetition_shows_how_far_the_job_is(api: RunningApi) -> None:
    body = {"story": STORY, "agent": "noop"}
    _, first, _ = await post(api, body, Idempotency_Key="k")
    await api.complete(UUID(first["job"]["id"]), {"story": {}})
    _, again, _ = await post(api, body, Idempotency_Key="k")
    assert (again["job"]["status"], again["queuePosition"]) == ("completed", None)
    status, waited, _ = await post(api, body, query="?wait=5", Idempotency_Key="k")
    assert (status, waited["job"]["result"]) == (200, {"story": {}})


# --- waiting ---------------------------------------------------------------------------------


async def only_job(observer: Observer) -> UUID | None:
    """The only job, as soon as there is one."""
    found = await observer.value("SELECT id FROM jobs")
    assert found is None or isinstance(found, UUID)
    return found


async def test_whoever_waits_gets_the_finished_job(api: RunningApi, observer: Observer) -> None:
    body = {"story": STORY, "agent": "noop"}
    waiting = asyncio.create_task(post(api, body, query="?wait=30"))
    job = await eventually(lambda: only_job(observer), what="the job is accepted")
    assert job is not None
    await api.complete(job, {"markdown": "# Log in"})

    status, document, headers = await asyncio.wait_for(waiting, 10)
    assert status == 200
    assert document.keys() == {"job", "links"}
    assert document["job"] == await api.get(job)
    assert document["job"]["result"] == {"markdown": "# Log in"}
    assert headers["Location"] == f"{JOBS}/{job}"
    assert FinishedJob(**document).job.id == job


async def test_whoever_waits_too_short_is_told_where_to_look(api: RunningApi) -> None:
    status, document, headers = await post(api, {"story": STORY}, query="?wait=0.1")
    assert (status, document["job"]["status"]) == (202, "queued")
    assert headers["Location"] == document["links"]["self"]
    assert "Retry-After" in headers


async def test_whoever_waits_too_short_is_told_where_the_job_stands_now(
    api: RunningApi, observer: Observer
) -> None:
    waiting = asyncio.create_task(post(api, {"story": STORY}, query="?wait=1.5"))
    job = await eventually(lambda: only_job(observer), what="the job is accepted")
    assert job is not None
    await api.claim(job)

    status, document, _ = await asyncio.wait_for(waiting, 10)
    assert (status, document["job"]["id"]) == (202, str(job))
    assert document["job"]["status"] == "processing"
    assert document["queuePosition"] is None
