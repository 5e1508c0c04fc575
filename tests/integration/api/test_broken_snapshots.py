"""An agent that cannot show its jobs does not keep them from being read and watched."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from service.agent.noop import NoopAgent
from service.agent.registry import register
from service.api import snapshots
from service.api.snapshots import Snapshots
from service.api.tails import TailHub
from service.domain.attempt import Checkpoint
from service.domain.job import Job, JsonObject
from service.streams.connection import once_client
from service.streams.event_feed import RedisEventFeed
from service.streams.event_log import RedisEventLog
from service.telemetry.logs import get_log
from tests.fixtures.api import JOBS, RunningApi, running_api
from tests.fixtures.database import Stores

GOOD: JsonObject = {"iterations": [], "completed": [], "current": None, "story": {}}


def fail() -> JsonObject:
    raise RuntimeError("canary")


class BrokenAgent(NoopAgent):
    """A noop agent that shows its jobs in its own way."""

    def __init__(self, show: Callable[[], Any]) -> None:
        self._show = show

    def snapshot(self, job: Job, checkpoints: Mapping[str, Checkpoint]) -> JsonObject:
        shown: JsonObject = self._show()
        return shown


@pytest.fixture(
    params=[
        fail,
        lambda: None,
        dict,
        lambda: {**GOOD, "completed": ["security"]},
        lambda: {**GOOD, "current": 7},
        lambda: {**GOOD, "story": {"when": object()}},
    ],
    ids=["raises", "nothing", "empty", "completed", "current", "no JSON"],
)
async def api(
    request: pytest.FixtureRequest, stores: Stores, redis_url: str
) -> AsyncIterator[RunningApi]:
    agents = register([BrokenAgent(request.param)])
    shown = Snapshots(stores.jobs, agents)
    client = once_client(redis_url, name="broken", timeout=1.0)
    log = RedisEventLog(client, stores.background)
    tails = TailHub(log, RedisEventFeed(client), stores.jobs, shown)
    async with running_api(
        stores, redis_url, agents=agents, snapshots=shown, tails=tails
    ) as running:
        yield running
    await client.aclose()


async def streamed(api: RunningApi, job: UUID) -> str:
    headers = api.sending()
    async with api.client.get(f"{JOBS}/{job}/stream", headers=headers) as response:
        assert response.status == 200
        return await response.text()


async def test_its_jobs_are_read_and_watched_without_progress_and_it_is_told_once(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await api.submit(), await api.submit()
    await api.complete(second, {"markdown": "# Done"})
    with capture_logs() as lines:
        monkeypatch.setattr(snapshots, "_log", get_log(snapshots.__name__))
        documents = [await api.get(job) for job in (first, second)]
        told = await streamed(api, second)
    assert [each["status"] for each in documents] == ["queued", "completed"]
    assert documents[0]["progress"] == {"completed": [], "current": None}
    assert documents[1]["result"] == {"markdown": "# Done"}
    assert "event: connected" in told
    assert "event: complete" in told
    [line] = [each for each in lines if each["event"] == "agent_snapshot_failed"]
    assert (line["agent"], line["log_level"]) == ("noop", "error")


async def test_its_bug_is_not_shown_to_the_caller(api: RunningApi) -> None:
    job = await api.submit()
    assert "canary" not in repr(await api.get(job))
