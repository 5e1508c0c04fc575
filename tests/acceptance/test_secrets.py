"""Secrets are seen by their owners and nowhere else, whatever goes wrong."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp
import pytest

from service.agent.model_stub.faults import Fault, FaultKind
from tests.acceptance.stage import JOBS, Stage
from tests.fixtures.processes import OWNER
from tests.fixtures.scale import scaled
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(240)

_FORMATS = scaled([("json", "text")], [("json", "text"), ("text", "json")])
_SURFACES = ("logs", "metrics", "traces", "Redis")
_JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(("of_api", "of_workers"), _FORMATS)
async def test_no_secret_is_seen_by_anybody_but_its_owner(
    stage: Stage, of_api: str, of_workers: str
) -> None:
    await stage.start("api", USA_LOG_FORMAT=of_api)
    refused = await a_key_that_claude_refuses(stage, of_workers)
    await stage.start("worker", USA_LOG_FORMAT=of_workers)
    jobs = [
        refused,
        await success(stage),
        *await failures(stage),
        await cancellation(stage),
        *await outages(stage),
    ]
    await malformed_requests(stage)
    await others_try(stage, jobs)
    await a_collector_that_refuses(stage)
    await stage.look_at_everything()
    for process in stage.cluster.processes:
        process.kill()
    stage.look_at_logs()
    stage.look_at_traces()

    assert stage.surfaces.leaks == []
    for where in (*_SURFACES, "events in Redis", "answers to another tenant"):
        assert stage.surfaces.looked_at[where] > 100, f"nobody looked at {where}"
    assert any(stage.canaries.story in str(call.body) for call in stage.stub.calls)
    assert {200, 400, 401} <= {call.status for call in stage.stub.calls}
    assert all("debug" in p.log_path.read_text().lower() for p in stage.cluster.processes)
    assert stage.collector.keys == {stage.canaries.collector_key}
    # Names are no secrets, but none of a collector's business.
    assert not any(OWNER.tenant_id in text for text in stage.collector.texts)
    assert len(stage.collector.named("chat ")) > len(jobs)


async def a_collector_that_refuses(stage: Stage) -> None:
    """Traces that nobody takes, which the log tells."""
    stage.collector.status = 401
    await stage.ended(await stage.submit())
    await eventually(lambda: len(stage.collector.refused) == 2, within=30, what="both are refused")


async def a_key_that_claude_refuses(stage: Stage, log_format: str) -> str:
    """The job of a worker with a wrong key, which waits and is cancelled."""
    key = stage.canaries.wrong_anthropic_key
    worker = await stage.start("worker", ANTHROPIC_API_KEY=key, USA_LOG_FORMAT=log_format)
    job_id = await stage.submit(headers={"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"})
    await eventually(
        lambda: "model_needs_operator" in worker.log_path.read_text(), within=30, what="it is told"
    )
    status, _ = await stage.ann.ask("DELETE", stage.at(f"{JOBS}/{job_id}"))
    assert status == 200
    worker.kill()
    stage.monitors = stage.monitors[:-1]
    await stage.ended(job_id)
    return job_id


async def success(stage: Stage) -> str:
    """A job that completes, submitted twice under a private Idempotency-Key, and refused once."""
    headers = {"Idempotency-Key": stage.canaries.idempotency_key}
    job_id = await stage.submit(headers=headers)
    assert await stage.submit(headers=headers) == job_id
    status, problem = await stage.ann.ask(
        "POST", stage.at(JOBS), json={"story": "another"}, headers=headers
    )
    assert (status, problem["code"]) == (422, "IDEMPOTENCY_CONFLICT")
    job = await stage.ended(job_id)
    assert job["status"] == "completed"
    assert stage.canaries.story in str(job["result"])
    return job_id


async def failures(stage: Stage) -> list[str]:
    """Jobs whose calls go wrong in ways that show the prompt to whoever logs too much."""
    told = f"the prompt {stage.canaries.story} of {stage.canaries.anthropic_key} is bad"
    failed = []
    for fault in (
        Fault(kind=FaultKind.REFUSE),
        Fault(kind=FaultKind.MALFORMED_OUTPUT),
        Fault(kind=FaultKind.ABORT),
        Fault(kind=FaultKind.REJECT, status=400, after=None, message=told),
        Fault(kind=FaultKind.ERROR_EVENT, error_type="api_error", message=told),
    ):
        stage.stub.queue_faults(fault)
        failed.append(await stage.submit())
        await stage.ended(failed[-1])
    return failed


async def cancellation(stage: Stage) -> str:
    """A job that is cancelled while its call runs."""
    before = len(stage.stub.calls)
    stage.stub.queue_faults(Fault(kind=FaultKind.STALL))
    job_id = await stage.submit()
    await eventually(lambda: len(stage.stub.calls) > before, within=30, what="the call runs")
    await stage.ann.ask("DELETE", stage.at(f"{JOBS}/{job_id}"))
    assert (await stage.ended(job_id))["status"] == "cancelled"
    return job_id


async def outages(stage: Stage) -> list[str]:
    """Each server goes away under requests and a running job, and comes back."""
    jobs = []
    for proxy in stage.proxies:
        stage.stub.queue_faults(Fault(kind=FaultKind.DRIP, delay=0.2))
        jobs.append(await stage.submit())
        await proxy.close()
        for method, path in (("GET", JOBS), ("POST", JOBS), ("GET", f"{JOBS}/{jobs[-1]}/stream")):
            body = {"json": {"story": stage.canaries.story}} if method == "POST" else {}
            timeout = aiohttp.ClientTimeout(total=8)
            # Without Redis a stream stays open until it is back.
            try:
                await stage.ann.ask(method, stage.at(path), timeout=timeout, **body)
            except TimeoutError:
                continue
        await proxy.open()
        await stage.ended(jobs[-1])
    return jobs


async def malformed_requests(stage: Stage) -> None:
    """Requests that are wrong in a way that somebody may be tempted to log or to repeat."""
    status, page = await stage.ann.ask("GET", stage.at(JOBS), headers=_bearer(stage.token))
    assert (status, bool(page["jobs"])) == (200, True), "the token is not the owner's"
    for credential in (stage.ann.key, stage.token):
        await wrong_credentials(stage, credential)
        await no_http(stage, credential)
    await wrong_bodies(stage)


async def wrong_credentials(stage: Stage, credential: str) -> None:
    """A key or token where it does not belong, or not quite right."""
    ask = stage.ann.ask
    await ask("GET", stage.at(f"{JOBS}?api_key={credential}&status={credential}"))
    await ask("GET", stage.at(f"{JOBS}/{credential}"))
    await ask("GET", stage.at(f"/{credential}/{stage.canaries.story}"))
    for headers in (
        {"Authorization": f"Basic {credential}"},
        {"Authorization": credential, "X-API-Key": f"x{credential}"},
        {"Authorization": _bearer(credential)["Authorization"], "X-API-Key": stage.ann.key},
        {"X-API-Key": stage.mallory.key[:-1]},
        _bearer(f"{credential}{credential}"),
        _bearer(f"{credential}x"),
        _bearer(f"x{credential}"),
    ):
        await ask("GET", stage.at(JOBS), headers=headers)


async def wrong_bodies(stage: Stage) -> None:
    """A private story that is not understood."""
    story, url, ask = stage.canaries.story, stage.at(JOBS), stage.ann.ask
    await ask("POST", url, data=f'{{"story": "{story}', headers=_JSON)
    await ask("POST", url, json={"story": [story], "agent": story, story: stage.ann.key})
    await ask("POST", url, json={"story": story, "agent": story})
    await ask("POST", url, json={"story": story, "options": {"model": story}})
    await ask("POST", url, data=story, headers={"Content-Type": f"text/{story}"})
    await ask("POST", url, json={"story": story}, headers={"Idempotency-Key": f"ü{story}"})


async def no_http(stage: Stage, credential: str) -> None:
    """Bytes that hold a secret and are no request."""
    story, bearer = stage.canaries.story, f"Authorization: Bearer {credential}\r\n"
    for raw in (
        f"GET {JOBS}?key={credential} HTTP/9.9\r\n{bearer}\r\n",
        f"GET {JOBS} HTTP/1.1\r\nHost: x\r\n{bearer}{bearer}\r\n",
        f"GET {JOBS} HTTP/1.1\r\nHost: x\r\n{bearer[:-2]}\0\r\n\r\n",
        f"GET {JOBS} HTTP/1.1\r\nHost: x\r\n{credential}\r\n\r\n",
        f"{credential} {story} {credential}\r\n\r\n",
        f"POST {JOBS} HTTP/1.1\r\nHost: x\r\n{bearer}Content-Length: {story}\r\n\r\n",
        f"POST {JOBS} HTTP/1.1\r\nHost: x\r\n{bearer}Transfer-Encoding: chunked\r\n\r\n{story}\r\n",
        f"POST {JOBS} HTTP/1.1\r\nHost: x\r\n{bearer}X-Long: {credential * 2000}\r\n\r\n",
    ):
        answer = await _send_raw(stage.address, raw)
        stage.surfaces.look("answers to the owner", answer, stage.ann.may_see)


def _bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


async def _send_raw(address: str, request: str) -> str:
    split = urlsplit(address)
    reader, writer = await asyncio.open_connection(split.hostname, split.port)
    try:
        with suppress(OSError):  # a long head is answered before all of it was sent
            writer.write(request.encode())
            await writer.drain()
            writer.write_eof()
        async with asyncio.timeout(20):
            return (await reader.read()).decode(errors="replace")
    except ConnectionError:
        return ""
    finally:
        writer.close()


async def others_try(stage: Stage, jobs: list[str]) -> None:
    """Another tenant and the operator ask for whatever there is of Ann's."""
    for job_id in jobs:
        for method, path in (
            ("GET", ""), ("GET", "?wait=0.1"), ("GET", "/stream"), ("DELETE", ""),
            ("DELETE", "?purge=true"), ("POST", "/redrive"),
        ):  # fmt: skip
            for caller, expected in ((stage.mallory, 404), (stage.operator, 403)):
                status, _ = await caller.ask(method, stage.at(f"{JOBS}/{job_id}{path}"))
                assert status == expected
    status, page = await stage.mallory.ask("GET", stage.at(JOBS))
    assert (status, page["jobs"]) == (200, [])
    for name in ("dead-letters", "queue"):
        await stage.operator.ask("GET", stage.at(f"/api/v1/admin/{name}"))
