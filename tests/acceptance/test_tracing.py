"""A job's whole way is one trace: from its POST through Redis to every call of the model."""

import signal
from typing import Any

import pytest
from aiohttp import ClientSession

from service.agent.model_stub import ModelStub
from service.agent.model_stub.faults import Fault, FaultKind
from tests.fixtures.collector import Collector, SeenSpan
from tests.fixtures.processes import Cluster
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(120)

STORY = "As a user, I want to log in, so that I can see my orders"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLERS_TRACE = CALLER.split("-")[1]
POST = "POST /api/v1/jobs"
JOBS = "{usa}:jobs"


def environment(collector: Collector, stub: ModelStub) -> dict[str, str]:
    """What makes a process call the stand-in for Claude and be traced."""
    return collector.environment(
        USA_MODEL="anthropic",
        ANTHROPIC_API_KEY="sk-ant-of-a-test",
        ANTHROPIC_BASE_URL=stub.address,
        # What the SDK would do of itself.
        ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE="content",
        ANTHROPIC_OPEN_TELEMETRY_PROPAGATION="true",
    )


async def submit(cluster: Cluster, iterations: list[str], **headers: str) -> str:
    """Submit a story with these headers; returns the job's id."""
    sent = {"Authorization": f"Bearer {cluster.key}", **headers}
    body = {"story": STORY, "iterations": iterations, "options": {"verify": False}}
    url = f"{cluster.address}/api/v1/jobs"
    async with ClientSession(headers=sent) as session, session.post(url, json=body) as response:
        assert response.status == 202
        job_id: str = (await response.json())["job"]["id"]
        return job_id


async def completed(cluster: Cluster, collector: Collector) -> SeenSpan:
    """The span of the attempt that completed the only job there is."""
    assert await cluster.all_ended(1, within=60.0) == {"completed": 1}

    def look() -> list[SeenSpan]:
        attempts = collector.named("process ")
        return [each for each in attempts if each.attributes["usa.ending"] == "completed"]

    [attempt] = await eventually(look, what="the attempt's span arrives")
    return attempt


async def test_one_trace_goes_from_the_caller_to_the_model_and_back(
    cluster: Cluster, collector: Collector, model_stub: ModelStub
) -> None:
    traced = environment(collector, model_stub)
    api = await cluster.start_api(**traced)
    [worker] = await cluster.start_workers(1, **traced)

    job = await submit(cluster, ["validation", "security"], traceparent=CALLER)
    attempt = await completed(cluster, collector)

    [post], [sent] = collector.named(POST), collector.named("send ")
    calls = collector.named("chat ")
    assert {each.trace for each in (post, sent, attempt, *calls)} == {CALLERS_TRACE}
    assert post.parent == CALLER.split("-")[2]
    assert (sent.parent, attempt.parent) == (post.id, sent.id)
    assert [call.parent for call in calls] == [attempt.id] * 2
    assert (post.service, sent.service) == ("usa-api", "usa-api")
    assert {each.service for each in (attempt, *calls)} == {"usa-worker"}
    assert [each.kind for each in (post, sent, attempt, *calls)] == [
        "server", "producer", "consumer", "client", "client",
    ]  # fmt: skip
    assert post.attributes["http.response.status_code"] == 202
    assert (attempt.attributes["usa.job"], attempt.attributes["usa.attempt"]) == (job, 1)
    assert [call.attributes["usa.iteration"] for call in calls] == ["validation", "security"]
    assert [call.attributes["gen_ai.usage.output_tokens"] for call in calls] == [
        made.billed.output for made in model_stub.calls
    ]
    assert attempt.began < calls[0].began < calls[0].ended < calls[1].began < calls[1].ended
    assert calls[1].ended < attempt.ended
    assert not any(each.has_failed or each.links for each in (post, sent, attempt, *calls))

    [answered] = [r for r in api.logged("http_request") if r["route"] == "/api/v1/jobs"]
    [ended] = worker.logged("attempt_ended")
    assert answered["trace_id"] == ended["trace_id"] == CALLERS_TRACE
    assert ended["request_id"] == answered["request_id"]
    assert (ended["job"], ended["attempt"]) == (job, 1)


async def test_anthropic_is_told_nothing_of_our_traces(
    cluster: Cluster, collector: Collector, model_stub: ModelStub
) -> None:
    traced = environment(collector, model_stub)
    await cluster.start_api(**traced)
    await cluster.start_workers(1, **traced)

    await submit(cluster, ["security"], traceparent=CALLER, baggage="who=ann", tracestate="a=b")
    attempt = await completed(cluster, collector)

    [call] = model_stub.calls
    told = {"traceparent", "tracestate", "baggage"}
    assert told.isdisjoint(name.lower() for name in call.headers)
    assert CALLERS_TRACE not in str((call.headers, call.body))
    # Nor does its SDK add spans of its own, with the prompts that a variable asks it for.
    assert {each.name.split()[0] for each in collector.spans} == {"POST", "send", "process", "chat"}
    assert not any(STORY in text for text in collector.texts)
    assert attempt.service == "usa-worker"


async def test_an_attempt_after_an_error_is_linked_with_the_one_that_failed(
    cluster: Cluster, collector: Collector, model_stub: ModelStub
) -> None:
    traced = environment(collector, model_stub)
    await cluster.start_api(**traced)
    await cluster.start_workers(1, **traced)
    model_stub.queue_faults(Fault(kind=FaultKind.REJECT, status=529, after=None))

    await submit(cluster, ["security"])
    second = await completed(cluster, collector)

    [post] = collector.named(POST)
    first, again = collector.named("process ")
    assert again == second
    assert {each.trace for each in collector.spans} == {post.trace}
    assert post.parent == ""
    assert second.links == ((post.trace, first.id),)
    assert (first.attributes["usa.ending"], first.has_failed) == ("retried", True)
    [failed, made] = collector.named("chat ")
    assert (failed.parent, made.parent) == (first.id, second.id)
    assert failed.has_failed
    assert failed.attributes["error.type"] == first.attributes["error.type"]
    # Each is a child of who rang for it: the API, then the relay of whoever was the first.
    of_api, of_relay = collector.named("send ")
    assert (first.parent, second.parent) == (of_api.id, of_relay.id)
    assert of_relay.parent == of_api.parent == post.id


async def test_an_attempt_after_a_crash_is_linked_with_the_one_that_died(
    cluster: Cluster, collector: Collector, model_stub: ModelStub
) -> None:
    traced = environment(collector, model_stub)
    await cluster.start_api(**traced)
    [victim] = await cluster.start_workers(1, **traced)
    model_stub.queue_faults(None, Fault(kind=FaultKind.STALL))

    await submit(cluster, ["validation", "security"])
    [before] = await eventually(lambda: collector.named("chat "), within=30.0)
    await eventually(lambda: len(model_stub.calls) == 2, within=30.0, what="the second call runs")
    victim.send(signal.SIGKILL)
    await cluster.start_workers(1, **traced)
    heir = await completed(cluster, collector)

    assert heir.attributes["usa.attempt"] == 2
    # The span of the victim never arrived; what it had finished before did.
    assert collector.named("process ") == [heir]
    assert heir.links == ((heir.trace, before.parent),)
    assert {each.trace for each in collector.spans} == {heir.trace}
    assert [call.parent for call in collector.named("chat ")] == [before.parent, heir.id]


async def test_who_calls_decides_whether_the_trace_is_recorded(
    cluster: Cluster, collector: Collector, model_stub: ModelStub
) -> None:
    traced = environment(collector, model_stub)
    await cluster.start_api(**traced)
    [worker] = await cluster.start_workers(1, **traced)

    await submit(cluster, ["security"], traceparent=CALLER[:-2] + "00")
    assert await cluster.all_ended(1, within=60.0) == {"completed": 1}
    await submit(cluster, ["security"], traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    await eventually(lambda: collector.named("process "), within=30.0)

    assert {each.trace for each in collector.spans} == {"1" * 32}
    assert {r["trace_id"] for r in worker.logged("attempt_ended")} == {CALLERS_TRACE, "1" * 32}


@pytest.mark.parametrize("command", ["api", "worker"])
async def test_a_process_sends_its_last_spans_before_it_ends(
    cluster: Cluster, collector: Collector, model_stub: ModelStub, command: str
) -> None:
    # Long enough that nothing but the end can be the reason.
    traced = environment(collector, model_stub) | {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
    api = await cluster.start_api(**traced)
    [worker] = await cluster.start_workers(1, **traced)
    await submit(cluster, ["security"])
    assert await cluster.all_ended(1, within=60.0) == {"completed": 1}
    assert collector.spans == []

    process: Any = {"api": api, "worker": worker}[command]
    process.send(signal.SIGTERM)

    assert await process.ended() == 0
    assert {each.service for each in collector.spans} == {f"usa-{command}"}
    names = {each.name for each in collector.spans}
    assert {"api": POST, "worker": f"process {JOBS}"}[command] in names


async def both_are_refused(collector: Collector, times: int) -> None:
    """Return once API and worker have each been refused so often."""

    def are() -> bool:
        return all(collector.refused[each] >= times for each in ("usa-api", "usa-worker"))

    await eventually(are, within=30.0, what=f"both were refused {times} times")


async def test_a_collector_that_is_down_costs_one_line_and_a_count(
    cluster: Cluster, collector: Collector, model_stub: ModelStub
) -> None:
    collector.status = 400
    traced = environment(collector, model_stub)
    api = await cluster.start_api(**traced)
    [worker] = await cluster.start_workers(1, **traced)
    for number in (1, 2, 3):
        await submit(cluster, ["security"])
        assert await cluster.all_ended(number, within=60.0) == {"completed": number}
        # One after the other, or what a process has of all of them could go in one export.
        await both_are_refused(collector, number)

    for process in (api, worker):
        process.send(signal.SIGTERM)
        assert await process.ended() == 0
        [told] = process.logged("traces_not_exported")
        assert "400" in told["reason"]
        levels = [r for r in process.log if r.get("level") in {"warning", "error"}]
        assert levels == [told]
        assert all(r.get("event") for r in process.log), "something else was written"
