"""The queue as those see it who operate it, and how they stop and go on with it."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.api.queue_documents import PauseState, QueueDocument
from service.domain.errors import Unavailable
from service.streams.connection import once_client
from service.streams.job_stream import ensure_group
from service.streams.queue_counts import RedisStreamCounter
from tests.fixtures.api import JOBS, STORY, RunningApi, running_api
from tests.fixtures.database import Stores
from tests.fixtures.waiting import eventually
from tests.integration.api.exchanges import Exchange, Log, exchange, logged, refusal

ADMIN = "/api/v1/admin"
QUEUE, PAUSE, RESUME = f"{ADMIN}/queue", f"{ADMIN}/pause", f"{ADMIN}/resume"
CALLS = [("GET", QUEUE), ("POST", PAUSE), ("POST", RESUME)]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with logged(monkeypatch, caplog) as hearing:
        yield hearing


async def operate(api: RunningApi, log: Log, method: str, path: str, **request: Any) -> Exchange:
    headers = api.sending(api.keys.admin, **request.pop("headers", {}))
    answer = await exchange(api, log, method, path, headers=headers, **request)
    assert answer.status == 200, answer.body
    return answer


async def the_queue(api: RunningApi, log: Log) -> QueueDocument:
    return QueueDocument.model_validate((await operate(api, log, "GET", QUEUE)).document)


async def state(api: RunningApi, log: Log, path: str, **request: Any) -> PauseState:
    answer = await operate(api, log, "POST", path, **request)
    assert answer.document.keys() == {"paused", "since", "by", "reason"}
    return PauseState.model_validate(answer.document)


async def test_jobs_and_streams_are_counted(api: RunningApi, log: Log) -> None:
    await ensure_group(api.redis)
    job = await api.submit()
    await api.submit()
    await api.complete(await api.submit(), {"ok": True})
    await api.claim(job)
    await eventually(lambda: _entries(api, 3), what="the entries are added")

    queue = await the_queue(api, log)

    assert queue.status == "ok"
    assert not queue.pause.paused
    assert (queue.jobs.queued, queue.jobs.processing, queue.jobs.failed) == (1, 1, 0)
    assert queue.jobs.oldest_queued_seconds is not None
    assert queue.jobs.ended_last_hour.model_dump() == {
        "completed": 1,
        "failed": 0,
        "cancelled": 0,
    }
    assert queue.streams is not None
    assert [each.model_dump() for each in queue.streams] == [
        {"stream": "{usa}:jobs:again", "entries": 0, "lag": 0, "pending": 0, "consumers": 0},
        {"stream": "{usa}:jobs", "entries": 3, "lag": 3, "pending": 0, "consumers": 0},
    ]


async def _entries(api: RunningApi, wanted: int) -> bool:
    return bool(await api.redis.xlen("{usa}:jobs") == wanted)


async def test_streams_that_are_not_there_hold_nothing(api: RunningApi, log: Log) -> None:
    queue = await the_queue(api, log)
    assert queue.streams is not None
    assert [(s.entries, s.lag, s.pending, s.consumers) for s in queue.streams] == [
        (0, None, 0, 0)
    ] * 2


async def test_without_redis_the_rest_is_told(stores: Stores, redis_url: str, log: Log) -> None:
    nowhere = once_client("redis://127.0.0.1:1/0", name="away", timeout=0.5)
    counter = RedisStreamCounter(nowhere)
    with pytest.raises(Unavailable):
        await counter.count_entries()
    async with running_api(stores, redis_url, streams=counter) as api:
        await api.submit()
        queue = await the_queue(api, log)
    assert (queue.status, queue.streams, queue.jobs.queued) == ("degraded", None, 1)
    await nowhere.aclose()


async def test_a_redis_that_hangs_is_not_waited_for(
    stores: Stores, redis_url: str, log: Log
) -> None:
    class Hanging(RedisStreamCounter):
        async def count_entries(self) -> Any:
            await self._client.blpop(["nothing"], 0.9)

    client = once_client(redis_url, name="hanging", timeout=3.0)
    async with running_api(stores, redis_url, streams=Hanging(client)) as api:
        assert (await the_queue(api, log)).status == "degraded"
    await client.aclose()


async def test_a_queue_is_paused_and_resumed(api: RunningApi, log: Log) -> None:
    paused = await state(api, log, PAUSE, json={"reason": "maintenance"})
    seen = (await the_queue(api, log)).pause
    again = await state(api, log, PAUSE, json={"reason": "another"})
    resumed = await state(api, log, RESUME)
    once_more = await state(api, log, RESUME)

    assert (paused.paused, paused.by, paused.reason) == (True, "rival/mallory", "maintenance")
    assert paused.since is not None
    assert paused == seen == again
    assert resumed == once_more == (await the_queue(api, log)).pause
    assert resumed.model_dump() == {"paused": False, "since": None, "by": None, "reason": None}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"reason": null}'])
async def test_a_reason_may_be_left_out(api: RunningApi, log: Log, body: bytes) -> None:
    paused = await state(api, log, PAUSE, data=body, headers={"Content-Type": "application/json"})
    assert (paused.paused, paused.reason) == (True, None)


@pytest.mark.parametrize(
    "body", [{"reason": 1}, {"reason": "x" * 501}, {"why": "x"}, ["x"], {"reason": "\0"}]
)
async def test_a_body_that_is_no_reason_is_refused(api: RunningApi, log: Log, body: object) -> None:
    answer = await refusal(api, log, "POST", PAUSE, json=body, headers=api.sending(api.keys.admin))
    assert answer.status == 400
    assert not (await the_queue(api, log)).pause.paused


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_only_operators_may(api: RunningApi, log: Log, method: str, path: str) -> None:
    for key in (api.keys.alice, api.keys.tenant):
        answer = await refusal(api, log, method, path, headers=api.sending(key))
        assert (answer.status, answer.document["code"]) == (403, "FORBIDDEN")
    assert await api.stores.queue.current_pause() is None


async def test_jobs_are_accepted_read_and_cancelled_in_a_pause(api: RunningApi, log: Log) -> None:
    await state(api, log, PAUSE)
    sent = {"json": {"story": STORY, "agent": "noop"}, "headers": api.sending()}

    accepted = await exchange(api, log, "POST", JOBS, **sent)
    path = f"{JOBS}/{accepted.document['job']['id']}"
    listed = await exchange(api, log, "GET", JOBS, headers=api.sending())
    read = await exchange(api, log, "GET", path, headers=api.sending())
    cancelled = await exchange(api, log, "DELETE", path, headers=api.sending())

    assert [a.status for a in (accepted, listed, read, cancelled)] == [202, 200, 200, 200]
    assert read.document["status"] == "queued"
    assert len(listed.document["jobs"]) == 1
