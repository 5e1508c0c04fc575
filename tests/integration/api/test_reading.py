"""Jobs are read by those they belong to, whole, in pages, as JSON or as Markdown."""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from service.api.documents import JobDocument, JobPage
from service.domain.usage import Usage
from tests.fixtures.api import JOBS, STORY, RunningApi
from tests.fixtures.database import Observer
from tests.fixtures.factories import a_checkpoint, a_closing, an_opening
from tests.fixtures.waiting import eventually

MARKDOWN = "# Log in\n\n- ä \U0001f600\n"


async def test_a_new_job_is_shown_whole(api: RunningApi) -> None:
    job = await api.submit(agent="user-story", iterations=["security"])
    document = await api.get(job)

    assert document.pop("createdAt").endswith("Z")
    assert document.pop("options")["verify"] is True
    assert document == {
        "id": str(job),
        "status": "queued",
        "story": STORY,
        "mode": "individual",
        "agent": "user-story",
        "iterations": ["security"],
        "attempt": 0,
        "availableAt": None,
        "startedAt": None,
        "completedAt": None,
        "progress": {"completed": [], "current": None},
        "result": None,
        "error": None,
        "tokenUsage": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
        "costUsd": 0.0,
    }


async def test_progress_and_cost_are_those_of_the_ledger(api: RunningApi) -> None:
    job = await api.submit(agent="sleep", options={"steps": 2})
    claim = await api.claim(job)
    checkpoint = a_checkpoint("step-1/draft", text="step-1", usage=Usage(input=7, output=3))
    for call, price in ((1, "0.25"), (2, "0.5")):
        await api.stores.ledger.open_call(an_opening(claim, call, step="step-1/draft"))
        finished = checkpoint if call == 2 else None
        closing = a_closing(
            claim.fence,
            call,
            usage=Usage(input=7, output=3),
            cost=Decimal(price),
            ending="finished" if finished else "aborted",
            checkpoint=finished,
        )
        await api.stores.ledger.close_call(closing)

    document = await api.get(job)
    assert (document["status"], document["attempt"]) == ("processing", 1)
    assert document["startedAt"].endswith("Z")
    assert document["progress"]["current"] == "step-2"
    [completed] = document["progress"]["completed"]
    assert completed["iteration"] == "step-1"
    assert (document["tokenUsage"]["input"], document["tokenUsage"]["output"]) == (14, 6)
    assert document["costUsd"] == 0.75


async def test_an_unknown_price_is_unknown(api: RunningApi) -> None:
    job = await api.submit(agent="sleep")
    claim = await api.claim(job)
    await api.stores.ledger.open_call(an_opening(claim))
    await api.stores.ledger.close_call(a_closing(claim.fence, cost=None))
    assert (await api.get(job))["costUsd"] is None


async def test_a_failed_job_says_why(api: RunningApi) -> None:
    job = await api.submit()
    await api.fail(job, "MODEL_REFUSED", "the model would not")
    document = await api.get(job)
    assert document["status"] == "failed"
    assert document["error"] == {
        "code": "MODEL_REFUSED",
        "message": "the model would not",
        "retryable": False,
    }
    assert document["completedAt"].endswith("Z")
    assert JobDocument.model_validate(document).error is not None


async def test_a_job_of_an_agent_that_is_gone_can_still_be_read(
    api: RunningApi, observer: Observer
) -> None:
    job = await api.submit(agent="user-story")
    await observer.run("UPDATE jobs SET agent = 'gone' WHERE id = $1", job)
    document = await api.get(job)
    assert (document["agent"], document["story"]) == ("gone", STORY)
    assert document["progress"] == {"completed": [], "current": None}


async def test_a_key_for_the_tenant_reads_and_cancels_what_is_its_users(api: RunningApi) -> None:
    job = await api.submit()
    assert (await api.get(job, api.keys.tenant))["id"] == str(job)
    headers = api.sending(api.keys.tenant)
    async with api.client.delete(f"{JOBS}/{job}", headers=headers) as response:
        assert response.status == 200
    foreign = await api.submit(api.keys.mallory)
    async with api.client.get(f"{JOBS}/{foreign}", headers=headers) as response:
        assert response.status == 404


# --- Markdown --------------------------------------------------------------------------------


async def read(api: RunningApi, job: UUID, accept: str) -> tuple[int, str, str]:
    """Read a job as what is accepted; status, media type and text."""
    headers = api.sending(Accept=accept)
    async with api.client.get(f"{JOBS}/{job}", headers=headers) as response:
        return response.status, response.content_type, await response.text()


async def test_a_finished_story_can_be_had_as_markdown(api: RunningApi) -> None:
    job = await api.submit()
    await api.complete(job, {"markdown": MARKDOWN})
    assert await read(api, job, "text/markdown") == (200, "text/markdown", MARKDOWN)
    assert await read(api, job, "text/markdown, */*;q=0.1") == (200, "text/markdown", MARKDOWN)
    _, media_type, _ = await read(api, job, "*/*")
    assert media_type == "application/json"


async def test_markdown_that_is_not_there_yet_is_not_acceptable(api: RunningApi) -> None:
    job = await api.submit()
    status, media_type, text = await read(api, job, "text/markdown")
    assert (status, media_type) == (406, "application/problem+json")
    assert "queued" in text
    status, media_type, _ = await read(api, job, "text/markdown, application/json;q=0.1")
    assert (status, media_type) == (200, "application/json")


async def test_a_result_without_markdown_has_none(api: RunningApi) -> None:
    job = await api.submit()
    await api.complete(job, {"story": {}})
    status, _, text = await read(api, job, "text/markdown")
    assert (status, "completed" in text) == (406, True)


# --- waiting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled"])
async def test_whoever_waits_is_told_of_the_end(api: RunningApi, ending: str) -> None:
    job = await api.submit()
    waiting = asyncio.create_task(api.get(f"{job}?wait=30"))
    await eventually(lambda: api.waited_for, what="somebody waits")
    if ending == "completed":
        await api.complete(job, {"story": {}})
    elif ending == "failed":
        await api.fail(job, "MODEL_REFUSED", "no")
    else:
        await api.client.delete(f"{JOBS}/{job}", headers=api.sending())
    document = await asyncio.wait_for(waiting, 10)
    assert document["status"] == ending


async def test_nobody_waits_for_what_has_ended_or_does_not_end(api: RunningApi) -> None:
    ended, goes_on = await api.submit(), await api.submit()
    await api.complete(ended, {})
    assert (await asyncio.wait_for(api.get(f"{ended}?wait=60"), 10))["status"] == "completed"
    assert (await asyncio.wait_for(api.get(f"{goes_on}?wait=0.1"), 10))["status"] == "queued"


async def test_a_job_erased_while_somebody_waits_is_not_found(
    api: RunningApi, observer: Observer
) -> None:
    job = await api.submit()
    path, headers = f"{JOBS}/{job}?wait=30", api.sending()
    waiting = asyncio.create_task(api.client.get(path, headers=headers))
    await eventually(lambda: api.waited_for, what="somebody waits")
    await observer.run("DELETE FROM jobs")
    assert (await asyncio.wait_for(waiting, 10)).status == 404


# --- lists -----------------------------------------------------------------------------------


async def page(api: RunningApi, query: str = "", key: str | None = None) -> dict[str, Any]:
    """A page of jobs."""
    async with api.client.get(f"{JOBS}?{query}", headers=api.sending(key)) as response:
        assert response.status == 200, await response.text()
        document: dict[str, Any] = await response.json()
    JobPage.model_validate(document)
    return document


def ids(document: dict[str, Any]) -> list[UUID]:
    """The ids of a page."""
    return [UUID(job["id"]) for job in document["jobs"]]


async def test_an_empty_list_is_a_list(api: RunningApi) -> None:
    assert await page(api) == {"jobs": [], "nextCursor": None}


async def test_lists_show_the_newest_first_and_no_results(api: RunningApi) -> None:
    jobs = [await api.submit() for _ in range(3)]
    await api.complete(jobs[0], {"markdown": MARKDOWN})
    document = await page(api)
    assert ids(document) == jobs[::-1]
    assert document["nextCursor"] is None
    assert {"result", "progress"}.isdisjoint(document["jobs"][-1])
    assert document["jobs"][-1]["status"] == "completed"


async def test_everybody_lists_their_own(api: RunningApi) -> None:
    alices, bobs = await api.submit(), await api.submit(api.keys.bob)
    mallorys = await api.submit(api.keys.mallory)
    assert ids(await page(api)) == [alices]
    assert ids(await page(api, key=api.keys.mallory)) == [mallorys]
    assert ids(await page(api, key=api.keys.tenant)) == [bobs, alices]


async def test_a_list_can_be_narrowed_to_a_status(api: RunningApi) -> None:
    done, waits = await api.submit(), await api.submit()
    await api.complete(done, {})
    assert ids(await page(api, "status=completed")) == [done]
    assert ids(await page(api, "status=queued")) == [waits]
    assert ids(await page(api, "status=failed")) == []


async def test_paging_misses_and_repeats_nothing_while_jobs_come_in(api: RunningApi) -> None:
    jobs = [await api.submit() for _ in range(7)]
    found: list[UUID] = []
    cursor = ""
    while True:
        document = await page(api, f"limit=2{cursor}")
        found += ids(document)
        await api.submit()
        if document["nextCursor"] is None:
            break
        cursor = f"&cursor={document['nextCursor']}"
    assert found == jobs[::-1]


async def test_jobs_of_the_same_moment_are_paged_by_their_ids(
    api: RunningApi, observer: Observer
) -> None:
    jobs = [await api.submit() for _ in range(5)]
    await observer.run("UPDATE jobs SET created_at = '2026-01-01T00:00:00.000001Z'")
    first = await page(api, "limit=3")
    rest = await page(api, f"limit=3&cursor={first['nextCursor']}")
    assert ids(first) + ids(rest) == sorted(jobs, reverse=True)


# --- HEAD ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/{}", "/{}?wait=0"])
async def test_head_tells_what_get_would(api: RunningApi, path: str) -> None:
    job = await api.submit()
    url = JOBS + path.format(job)
    async with api.client.get(url, headers=api.sending()) as got:
        length = len(await got.read())
    async with api.client.head(url, headers=api.sending()) as response:
        assert (response.status, await response.read()) == (200, b"")
        assert int(response.headers["Content-Length"]) == length
    async with api.client.head(url) as response:
        assert response.status == 401


async def test_head_of_a_stream_opens_none(api: RunningApi) -> None:
    job = await api.submit()
    url, headers = f"{JOBS}/{job}/stream", api.sending()
    async with asyncio.timeout(5), api.client.head(url, headers=headers) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert await response.read() == b""
