"""Whoever watched a job fail, and whoever comes later, gets the generation after its redrive."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from pydantic import SecretStr

from service.agent.model_stub import Fault, FaultKind, ModelStub
from service.domain.events import BEGINNING, EventId
from service.domain.job import JobStatus
from service.domain.transitions import Fail
from tests.fixtures.deployment import Deployment
from tests.fixtures.waiting import eventually
from tests.integration.api.authors import Author
from tests.integration.api.watchers import Watcher

_REFUSED = Fail("MODEL_REFUSED", "the model refused")


@pytest.fixture
async def author(deployment: Deployment) -> Author:
    """A job that runs and has told nothing yet, and an API that serves it."""
    await deployment.start_api()
    return await Author.of_new_job(deployment)


async def redrive(deployment: Deployment, author: Author) -> None:
    """Redrive the job over HTTP; returns when that is told."""
    url = f"{deployment.url}/api/v1/jobs/{author.job_id}/redrive"
    async with deployment.session.post(url, headers=deployment.sending()) as response:
        assert response.status == 202, await response.text()
    await eventually(
        lambda: deployment.log.read_after(author.job_id, EventId(1, 99), 10), what="it is told"
    )


async def redrive_and_die(deployment: Deployment, author: Author) -> None:
    """Redrive the job as an API that is killed right after its commit."""
    redrive = await deployment.stores.dead_letters.redrive([author.job_id])
    assert len(redrive.redriven) == 1


async def to_the_end(deployment: Deployment, author: Author) -> list[str]:
    """Claim the job, tell some more and complete it; returns the ids of that attempt."""
    job = await deployment.stores.attempts.get(author.job_id)
    assert job is not None
    assert job.status is JobStatus.QUEUED
    await author.claim()
    return [*await author.tell(2), await author.complete()]


async def assert_completed(deployment: Deployment, watcher: Watcher) -> None:
    """A client has got one story, and it ends with the result that is stored."""
    watcher.assert_sound()
    assert watcher.types[-1] == "complete"
    assert watcher.view.final is not None
    assert watcher.view.final["result"] == (await deployment.job(watcher.job_id))["result"]


def after(deployment: Deployment, author: Author, cursor: str) -> Watcher:
    """A client that has seen all up to there."""
    seen = EventId.parse(cursor)
    assert seen is not None
    return Watcher(deployment, author.job_id, after=seen)


async def test_who_saw_the_error_is_told_the_new_generation_to_its_one_end(
    deployment: Deployment, author: Author
) -> None:
    await author.tell(2)
    cursor = await author.fail()
    first = await Watcher(deployment, author.job_id).watch()
    assert (first.ids, first.types[-1]) == (["1-1", "1-2", "1-3"], "error")

    await redrive(deployment, author)
    watcher = after(deployment, author, cursor)
    watching = asyncio.create_task(watcher.watch())
    await eventually(lambda: watcher.ids == ["2-1"], what="it is told of the redrive")
    told = await to_the_end(deployment, author)

    await watching
    assert watcher.ids == ["2-1", *told]
    assert told == ["3-1", "3-2", "3-3"]
    assert watcher.types[:2] == ["connected", "retrying"]
    assert watcher.types[-1] == "complete"
    await assert_completed(deployment, watcher)


async def test_the_end_that_was_seen_counts_by_the_row_as_it_is_now(
    deployment: Deployment, author: Author
) -> None:
    cursor = await author.fail()

    async def status() -> int:
        async with deployment.session.get(
            deployment.stream_url(author.job_id),
            headers=deployment.sending(**{"Last-Event-ID": cursor}),
            timeout=aiohttp.ClientTimeout(total=20),
        ) as response:
            return response.status

    assert await status() == 204
    await redrive(deployment, author)
    assert await status() == 200
    told = await to_the_end(deployment, author)
    assert await status() == 200
    assert (await after(deployment, author, told[-1]).watch()).status == 204


async def test_a_browser_that_comes_back_by_itself_ends_with_the_new_generation(
    deployment: Deployment, author: Author
) -> None:
    await author.fail()
    watcher = await Watcher(deployment, author.job_id).watch()
    await redrive(deployment, author)
    told = await to_the_end(deployment, author)

    await watcher.connect()

    assert watcher.ids == ["1-1", "2-1", *told]
    assert [each for each in watcher.types if each in {"error", "complete"}] == [
        "error",
        "complete",
    ]
    assert watcher.view.final is not None
    assert watcher.view.final["result"] == (await deployment.job(author.job_id))["result"]


@pytest.mark.parametrize("seen", ["0-0", "1-1", "1-2", "1-3"])
@pytest.mark.parametrize("is_running", [False, True])
async def test_an_api_that_dies_before_it_tells_leaves_no_reader_with_the_error(
    deployment: Deployment, author: Author, seen: str, is_running: bool
) -> None:
    await author.tell(2)
    await author.fail()
    await redrive_and_die(deployment, author)
    assert len(await deployment.log.read_after(author.job_id, BEGINNING, 10)) == 3
    if is_running:
        await author.claim()
        await author.tell()
    watcher = after(deployment, author, seen)
    watching = asyncio.create_task(watcher.watch())
    await eventually(lambda: watcher.types, what="it is connected")

    if not is_running:
        await author.claim()
    await author.tell()
    await author.complete()

    await watching
    assert "error" not in watcher.types
    await assert_completed(deployment, watcher)


async def test_a_watcher_whose_messages_were_lost_goes_on_over_the_redrive(
    deployment: Deployment, author: Author
) -> None:
    await author.tell()
    watcher = Watcher(deployment, author.job_id)
    watching = asyncio.create_task(watcher.watch())
    await eventually(lambda: watcher.ids == ["1-1"], what="it follows")

    # Whoever failed the job dies before it tells.
    event = await author.commit(_REFUSED)
    await redrive(deployment, author)
    # It wakes up, and so does maintenance.
    assert (await deployment.log.append(author.job_id, [event], 60.0)).is_fenced
    await deployment.stores.attempts.clear_event_pending(author.job_id, event.id)
    told = await to_the_end(deployment, author)

    await watching
    assert watcher.ids == ["1-1", "2-1", *told]
    assert watcher.connections == 1
    await assert_completed(deployment, watcher)


@pytest.mark.parametrize("when", ["queued", "running", "completed"])
async def test_after_redis_lost_everything_the_end_comes_from_postgres(
    deployment: Deployment, author: Author, when: str
) -> None:
    await author.tell(2)
    cursor = await author.fail()
    await redrive(deployment, author)
    watchers = [Watcher(deployment, author.job_id), after(deployment, author, cursor)]

    if when == "queued":
        await deployment.redis.flushall()
    await author.claim()
    await author.tell(2)
    if when == "running":
        await deployment.redis.flushall()
    event = await author.commit()
    if when == "completed":
        await deployment.redis.flushall()
    else:
        await author.announce(event)

    for watcher in watchers:
        await watcher.watch()
        assert "error" not in watcher.types
        await assert_completed(deployment, watcher)


async def test_every_replica_tells_the_same_generation(
    deployment: Deployment, author: Author
) -> None:
    await author.tell(2)
    cursor = await author.fail()
    await redrive(deployment, author)
    await deployment.start_api()
    watcher = after(deployment, author, cursor)
    watching = asyncio.create_task(watcher.watch())
    await eventually(lambda: watcher.ids == ["2-1"], what="it is told of the redrive")

    told = await to_the_end(deployment, author)

    assert (await watching).ids == ["2-1", *told]


async def test_a_redriven_job_that_fails_again_has_an_end_of_its_own(
    deployment: Deployment, author: Author
) -> None:
    first = await author.fail()
    await redrive(deployment, author)
    await author.claim()
    second = await author.fail()

    watcher = await after(deployment, author, first).watch()

    assert (watcher.ids, watcher.types[-1]) == (["2-1", second], "error")
    assert (await after(deployment, author, second).watch()).status == 204


async def test_a_redriven_job_that_is_cancelled_has_that_end(
    deployment: Deployment, author: Author
) -> None:
    cursor = await author.fail()
    await redrive(deployment, author)
    url = f"{deployment.url}/api/v1/jobs/{author.job_id}"
    async with deployment.session.delete(url, headers=deployment.sending()) as response:
        assert response.status == 200

    watcher = await after(deployment, author, cursor).watch()

    assert (watcher.ids, watcher.types[-1]) == (["2-1", "3-1"], "cancelled")


@pytest.fixture
async def stub() -> AsyncIterator[ModelStub]:
    """A stand-in for Claude."""
    stub = ModelStub()
    await stub.start()
    yield stub
    await stub.stop()


async def test_what_clients_have_folded_is_the_story_that_was_stored(
    deployment: Deployment, stub: ModelStub
) -> None:
    claude = {
        "model": "anthropic",
        "anthropic_api_key": SecretStr("sk-ant-of-the-test"),
        "anthropic_base_url": stub.address,
    }
    await deployment.start_api(**claude)
    await deployment.start_worker(**claude)
    # The first iteration is paid, the draft of the second rejected.
    stub.queue_faults(None, None, Fault(kind=FaultKind.REJECT, status=400))
    job_id = await deployment.submit(iterations=["user-roles", "validation", "security"])
    assert (await deployment.ended(job_id))["error"]["code"] == "PROCESSING_ERROR"
    saw_the_error = await Watcher(deployment, job_id).watch()
    assert saw_the_error.types[-1] == "error"
    assert [call.completed for call in stub.calls] == [True, True, False]

    url = f"{deployment.url}/api/v1/jobs/{job_id}/redrive"
    async with deployment.session.post(url, headers=deployment.sending()) as response:
        assert response.status == 202
    from_the_start = await Watcher(deployment, job_id).watch()
    await saw_the_error.connect()
    job = await deployment.ended(job_id)

    assert job["status"] == "completed"
    from_the_start.assert_sound(job)
    for watcher in (saw_the_error, from_the_start):
        assert watcher.view.final is not None
        assert watcher.view.final["result"] == job["result"]
        assert watcher.view.story.as_json() == job["result"]["story"]
    checkpoints = await deployment.stores.checkpoints(job_id)
    assert sum(call.completed for call in stub.calls) == len(checkpoints)
