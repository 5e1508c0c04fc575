"""An agent of another distribution inherits all that jobs have: queue, events, ledger, retries."""

from typing import Any
from uuid import UUID

import aiohttp
import pytest

from service.agent.model_stub import Fault, FaultKind, ModelStub
from service.domain.job import JsonObject
from tests.fixtures.plug_ins import PLUG_IN, install
from tests.fixtures.processes import Cluster
from tests.fixtures.waiting import eventually
from tests.fixtures.watching import CurlWatch

pytestmark = pytest.mark.timeout(120)

TERMS = ["order", "customer", "returning", "log in", "history"]


def environment(stub: ModelStub, **more: str) -> dict[str, str]:
    return {
        "PYTHONPATH": str(PLUG_IN),
        "USA_MODEL": "anthropic",
        "ANTHROPIC_API_KEY": "sk-ant-of-the-test",
        "ANTHROPIC_BASE_URL": stub.address,
        **more,
    }


async def post(
    cluster: Cluster, options: JsonObject, idempotency_key: str = "once"
) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {cluster.key}", "Idempotency-Key": idempotency_key}
    body = {"story": "As a customer, I want my orders", "agent": "glossary", "options": options}
    async with (
        aiohttp.ClientSession(cluster.address) as session,
        session.post("/api/v1/jobs", json=body, headers=headers) as response,
    ):
        return response.status, await response.json()


async def test_a_job_runs_streams_and_resumes_and_no_finished_call_is_paid_again(
    cluster: Cluster,
) -> None:
    stub = ModelStub(pause=0.5, piece_length=8)
    await stub.start()
    try:
        await cluster.start_api(**environment(stub))
        await cluster.start_workers(2, **environment(stub))
        status, accepted = await post(cluster, {"terms": TERMS})
        assert status == 202
        job = UUID(accepted["job"]["id"])
        assert (await post(cluster, {"terms": TERMS}))[1]["job"]["id"] == str(job)
        watch = CurlWatch.start(cluster, job)
        await kill_whoever_runs_it(cluster)

        assert await cluster.all_ended(1, within=60.0) == {"completed": 1}

        events = await watch.ended()
        started = [e.data for e in events if e.type == "start"]
        assert len(started) == 2
        known = [each["iteration"] for each in started[1]["completed"]]
        assert (started[0]["resumed"], started[1]["resumed"]) == (False, True)
        assert known == TERMS[: len(known)] != []
        after = [
            event.data["iteration"]
            for event in events
            if event.type == "iteration:complete" and event.data["attempt"] > 1
        ]
        assert [*known, *after] == TERMS
        assert events[-1].type == "complete"
        assert events[-1].data["result"]["glossary"] == dict.fromkeys(TERMS, "text")
        assert await cluster.calls_paid_twice() == []
        finished = sum(call.completed for call in stub.calls)
        # Only what the victim was reading when it died may have been paid for nothing.
        assert len(TERMS) <= finished <= len(TERMS) + 1
        async with cluster.client() as client:
            document = await client.get(job)
        assert document["progress"]["current"] is None
        assert [each["iteration"] for each in document["progress"]["completed"]] == TERMS
        assert document["tokenUsage"]["output"] > 0
        assert (document["costUsd"] or 0) > 0
        assert document["result"] is not None
        assert document["result"]["models"] == ["claude-haiku-5-5"]
    finally:
        await stub.stop()


async def kill_whoever_runs_it(cluster: Cluster) -> None:
    """Kill -9 the job's worker after its first finished call."""

    async def worker() -> str | None:
        rows = await cluster.rows(
            "SELECT worker_id FROM jobs j WHERE status = 'processing'"
            " AND EXISTS (SELECT FROM checkpoints c WHERE c.job_id = j.id)"
        )
        return str(rows[0]["worker_id"]) if rows else None

    worker_id = await eventually(worker, within=40.0, what="a call is finished")
    workers = [each for each in cluster.processes if each.command == "worker"]
    [victim] = [each for each in workers if each.logged("worker_started")[0]["worker"] == worker_id]
    victim.kill()


async def test_its_calls_are_tried_again(cluster: Cluster, model_stub: ModelStub) -> None:
    await cluster.start_api(**environment(model_stub))
    await cluster.start_workers(1, **environment(model_stub))
    model_stub.queue_faults(None, Fault(kind=FaultKind.REJECT, status=529))
    assert (await post(cluster, {"terms": TERMS[:2]}))[0] == 202
    assert await cluster.all_ended(1, within=60.0) == {"completed": 1}
    assert await cluster.count("SELECT error_count FROM jobs") == 1
    assert sum(call.completed for call in model_stub.calls) == 2


async def test_its_options_are_checked_by_its_own_model(
    cluster: Cluster, model_stub: ModelStub
) -> None:
    await cluster.start_api(**environment(model_stub))
    for options, field in (
        ({}, "options.terms"),
        ({"terms": ["order", ""]}, "options.terms[1]"),
        ({"terms": ["order"], "verify": False}, "options.verify"),
    ):
        status, problem = await post(cluster, options)
        assert (status, problem["code"]) == (400, "VALIDATION_ERROR")
        assert [error["field"] for error in problem["errors"]] == [field]
    assert await cluster.count("SELECT count(*) FROM jobs") == 0


async def test_offline_rules_say_that_they_cannot_do_its_work(cluster: Cluster) -> None:
    await cluster.start_api(PYTHONPATH=str(PLUG_IN))
    await cluster.start_workers(1, PYTHONPATH=str(PLUG_IN))
    assert (await post(cluster, {"terms": ["order"]}))[0] == 202
    assert await cluster.all_ended(1, within=30.0) == {"failed": 1}
    (row,) = await cluster.rows("SELECT error FROM jobs")
    assert "user stories only" in str(row["error"])


@pytest.mark.parametrize("command", ["api", "worker"])
async def test_a_broken_one_keeps_a_process_from_starting_in_one_line(
    cluster: Cluster, command: str
) -> None:
    folder = install(cluster.folder / "broken", "usa-poems", "poems = no_such_poems:Agent")
    process = cluster.start(command, PYTHONPATH=str(folder))
    assert await process.ended(60.0) == 9
    [line] = [each["text"] for each in process.log if "text" in each]
    assert line.startswith("usa: the agent of usa-poems 2.1 (entry point poems = no_such_poems")
    assert "ModuleNotFoundError" in line
