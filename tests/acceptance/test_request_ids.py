"""A request can be followed by its id, from its sender to the model."""

import re
from uuid import UUID

import pytest
from aiohttp import ClientSession

from service.agent.model_stub import ModelStub
from service.domain.job import JsonObject
from tests.fixtures.processes import Cluster, ServiceProcess
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(120)

STORY = "As a user, I want to log in, so that I can see my orders"


async def submit(cluster: Cluster, **headers: str) -> tuple[str, str]:
    """Submit a story; returns the job, and the request's id as it is answered."""
    sent = {"Authorization": f"Bearer {cluster.key}", **headers}
    body = {"story": STORY, "iterations": ["security"], "options": {"verify": False}}
    url = f"{cluster.address}/api/v1/jobs"
    async with ClientSession(headers=sent) as session, session.post(url, json=body) as response:
        assert response.status == 202
        return (await response.json())["job"]["id"], response.headers["X-Request-ID"]


async def about(worker: ServiceProcess, job: str) -> list[JsonObject]:
    """All that a worker has logged about a job, once it has ended."""
    await eventually(
        lambda: [r for r in worker.logged("attempt_ended") if r["job"] == job], within=60.0
    )
    return [record for record in worker.log if record.get("job") == job]


async def test_an_id_goes_from_the_request_through_the_worker_to_the_model(
    cluster: Cluster, model_stub: ModelStub
) -> None:
    claude = {
        "USA_MODEL": "anthropic",
        "ANTHROPIC_API_KEY": "sk-ant-of-a-test",
        "ANTHROPIC_BASE_URL": model_stub.address,
    }
    api = await cluster.start_api(**claude)
    [worker] = await cluster.start_workers(1, **claude)

    job, answered = await submit(cluster, **{"X-Request-ID": "ticket-4711:try.1"})
    assert answered == "ticket-4711:try.1"
    records = await about(worker, job)
    assert {(r["request_id"], r["attempt"]) for r in records} == {(answered, 1)}
    assert {call.headers.get("x-request-id") for call in model_stub.calls} == {answered}
    heard = [r["event"] for r in api.log if r.get("request_id") == answered]
    assert {"audit", "http_request"} <= set(heard)
    [stored] = await cluster.rows("SELECT request_id FROM jobs WHERE id = $1", UUID(job))
    assert stored["request_id"] == answered

    calls_before = len(model_stub.calls)
    other_job, made = await submit(cluster, **{"X-Request-ID": "not an id\ttab"})
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    records = await about(worker, other_job)
    assert {r["request_id"] for r in records} == {made}
    calls = model_stub.calls[calls_before:]
    assert {call.headers.get("x-request-id") for call in calls} == {made}
