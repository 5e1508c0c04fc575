"""Whoever follows a job with our client does not notice that everything else dies."""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
import pytest

from service.client.api_client import ApiClient
from service.client.event_stream import StreamEvent
from service.domain.events import EventId, EventType
from service.domain.folding import fold
from tests.fixtures.processes import Cluster, ServiceProcess
from tests.fixtures.strangers import free_port
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(180)

STORY = "As a buyer, I want to pay by invoice, so that my employer pays"
# Slow enough that the job is still running after four deaths.
SLOWLY = {"USA_OFFLINE_PACE": "0.4"}


@dataclass
class Follower:
    """A reader who has only our client."""

    client: ApiClient
    job_id: UUID
    seen: list[StreamEvent] = field(default_factory=list)

    async def follow(self) -> None:
        """Remember every event to the last."""
        async for event in self.client.follow(self.job_id):
            self.seen.append(event)

    async def has_heard_more(self) -> None:
        """Return once another durable event has come that tells of work."""
        heard = self.work_heard
        await eventually(lambda: self.work_heard > heard, within=60.0, what="the job goes on")

    @property
    def work_heard(self) -> int:
        """How many events have told of what an iteration does."""
        return sum(event.type.startswith("iteration:") for event in self.seen)


async def test_a_job_folded_by_our_client_is_the_stored_result_though_all_die_twice(
    cluster: Cluster,
) -> None:
    port = str(free_port())
    api = await cluster.start_api(PORT=port)
    [worker] = await cluster.start_workers(1, **SLOWLY)
    troubles: list[str] = []
    async with ApiClient(cluster.address, cluster.key, on_trouble=troubles.append) as client:
        accepted = await client.submit(STORY, mode="workflow", options={"productType": "api"})
        follower = Follower(client, UUID(accepted["job"]["id"]))
        following = asyncio.create_task(follower.follow())
        for _ in range(2):
            await kill_during(cluster, follower, api)
            api = await cluster.start_api(PORT=port)
            await kill_during(cluster, follower, worker)
            [worker] = await cluster.start_workers(1, **SLOWLY)
        await following
        answered = await client.get(follower.job_id)

    assert answered["status"] == "completed"
    assert answered["attempt"] == 3, "it was not started anew after each death of a worker"
    assert len(troubles) >= 2, "the stream was not cut by each death of the API"
    check_ids(follower.seen)
    view = fold((event.type, event.data) for event in follower.seen)
    stored = await stored_result(cluster, follower.job_id)
    assert view.ending is EventType.COMPLETE
    assert view.final is not None
    assert view.final["result"] == stored == answered["result"]
    assert view.story.as_json() == stored["story"]
    assert [each["iteration"] for each in view.completed] == [
        each["id"] for each in stored["iterations"]
    ]


async def kill_during(cluster: Cluster, follower: Follower, process: ServiceProcess) -> None:
    """Kill -9 in the middle of the job, whose reader has just heard of it."""
    await follower.has_heard_more()
    process.kill()
    statuses = await cluster.statuses()
    assert statuses == {"processing": 1}, "the job ended too soon to be disturbed"


def check_ids(events: list[StreamEvent]) -> None:
    """Each id is greater than all before it, and the one end is the last event."""
    ids = [EventId.parse(event.id) for event in events if event.id is not None]
    assert ids == sorted({each for each in ids if each is not None}) != []
    assert [event.is_terminal for event in events].count(True) == 1
    assert events[-1].is_terminal


async def stored_result(cluster: Cluster, job_id: UUID) -> dict[str, Any]:
    """The result as it stands in Postgres."""
    [row] = await cluster.rows("SELECT result::text FROM jobs WHERE id = $1", job_id)
    result: dict[str, Any] = orjson.loads(row["result"])
    return result
