"""The stub refuses what the real API refuses, and writes down what it was asked."""

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from service.agent.model_stub import Fault, FaultKind, ModelStub, random_faults, serve
from tests.integration.agent.calls import VERIFICATION_SCHEMA, ask, last_call, make_model, until

HEADERS = {"authorization": "Bearer sk-1", "anthropic-version": "2026-10-21"}


def _body(**changes: Any) -> dict[str, Any]:
    body = {
        "model": "claude-sonnet-5-5",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
    } | changes
    return {name: value for name, value in body.items() if value is not ...}


def _format(schema: Any) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


async def _post(
    stub: ModelStub, body: Any, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{stub.address}/v1/messages",
            data=data,
            headers=HEADERS if headers is None else headers,
        ) as response,
    ):
        return response.status, await response.text()


_ITSELF = {"type": "array", "items": {"$ref": "#/$defs/A"}}
_MARK = {"cache_control": {"type": "ephemeral"}}
_SYSTEM = [{"type": "text", "text": f"rule {n}"} | _MARK for n in range(5)]


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"top_k": 5},
        {"tool_choice": {"type": "any"}},
        {"tool_choice": {"type": "tool", "name": "reply"}},
        {"messages": [*_body()["messages"], {"role": "assistant", "content": "{"}]},
        {"messages": [{"role": "assistant", "content": "Hi"}, *_body()["messages"]]},
        {"messages": []},
        {"messages": [{"role": "system", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": "  "}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
        {"messages": [{"role": "user", "content": ["Hi"]}]},
        {"messages": [{"role": "user", "content": "Hi", "name": "Ann"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "id": "1"}]}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"thinking": {"type": "disabled"}},
        {"max_tokens": ...},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"max_tokens": 128_001},
        {"model": ...},
        {"stream": False},
        {"surprise": 1},
        {"system": [{"type": "text", "text": ""}]},
        {"system": _SYSTEM},
        {"system": _SYSTEM[:4], "cache_control": {"type": "ephemeral"}},
        {"system": [{"type": "text", "text": "x", "cache_control": {"type": "eternal"}}]},
        {"cache_control": {"type": "ephemeral", "ttl": "2h"}},
        {"cache_control": {"type": "ephemeral", "scope": "global"}},
        {"output_config": {"format": {"type": "json_object"}}},
        {"output_config": {"effort": "heroic"}},
        {"output_config": {"shape": "round"}},
        {"output_config": {"format": {"type": "json_schema", "schema": _object(), "name": "x"}}},
        _format("object"),
        _format({"type": "object", "properties": {}}),
        _format(_object(a={"type": "string", "maxLength": 5})),
        _format(_object(a={"type": "number", "minimum": 0})),
        _format(_object(a={"type": "array", "items": {"type": "string"}, "minItems": 2})),
        _format(_object(a={"type": "array", "items": {"type": "object", "properties": {}}})),
        _format(_object(a={"anyOf": [{"type": "text"}]})),
        _format(_object(a={"description": "no type"})),
        _format(_object(a={"type": "string", "format": "colour"})),
        _format(_object(a="string")),
        _format(_object() | {"required": ["a"]}),
        _format(_object(a={"$ref": "#/$defs/A"})),
        _format(_object(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": _object(b=_ITSELF)}}),
        _format(_object(a={"type": "array", "maxItems": 3, "items": {"type": "string"}})),
        _format(_object() | {"$defs": {"A": {"type": "string", "pattern": "a", "minLength": 1}}}),
    ],
    ids=str,
)
async def test_what_the_real_api_refuses_is_refused(
    model_stub: ModelStub, changes: dict[str, Any]
) -> None:
    status, text = await _post(model_stub, _body(**changes))
    assert (status, json.loads(text)["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"thinking": {"type": "adaptive"}},
        {"system": "rules"},
        {"system": _SYSTEM[:4]},
        {"tool_choice": {"type": "auto"}},
        {"output_config": {"effort": "low"}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"} | _MARK]}]},
        _format(_object(a={"type": "array", "items": {"enum": ["x", None]}, "minItems": 1})),
        _format(_object(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": {"type": "string"}}}),
    ],
    ids=str,
)
async def test_what_the_real_api_accepts_is_answered(
    model_stub: ModelStub, changes: dict[str, Any]
) -> None:
    status, text = await _post(model_stub, _body(**changes))
    assert status == 200
    assert text.startswith("event: message_start\ndata: {")
    assert text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Basic eDp5", "anthropic-version": "1"}, 401),
        ({"authorization": "Bearer sk-1"}, 400),
        ({"x-api-key": "sk-1", "anthropic-version": "1"}, 200),
    ],
)
async def test_a_key_and_a_version_are_required(
    model_stub: ModelStub, headers: dict[str, str], status: int
) -> None:
    assert (await _post(model_stub, _body(), headers))[0] == status


async def test_only_the_given_key_is_accepted_if_one_is_given() -> None:
    stub = ModelStub(api_key="sk-2")
    await stub.start()
    assert (await _post(stub, _body()))[0] == 401
    assert (await _post(stub, _body(), HEADERS | {"authorization": "Bearer sk-2"}))[0] == 200
    await stub.stop()


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 400), (b'"' + b"x" * (33 << 20) + b'"', 413)]
)
async def test_bodies_that_are_no_request_are_refused(
    model_stub: ModelStub, body: bytes, status: int
) -> None:
    assert (await _post(model_stub, body))[0] == status


async def test_an_unknown_model_is_not_found(model_stub: ModelStub) -> None:
    status, text = await _post(model_stub, _body(model="claude-unheard-of"))
    assert (status, json.loads(text)["error"]["type"]) == (404, "not_found_error")


async def test_a_verification_passes_and_a_draft_adds_to_the_iterations_own_path(
    model_stub: ModelStub,
) -> None:
    model = make_model(model_stub)
    draft, again = await ask(model), await ask(model)
    verdict = await ask(model, schema=VERIFICATION_SCHEMA)
    first, second = json.loads(draft.text)["patches"]
    assert (first["op"], first["path"], first["id"]) == ("add", "systemAcceptanceCriteria", None)
    assert first["text"] != second["text"]
    assert again.text == draft.text
    assert json.loads(verdict.text) == {"score": 0.92, "issues": []}
    await model.close()


async def test_a_draft_adds_nothing_where_its_prompt_does_not_let_it_add(
    model_stub: ModelStub,
) -> None:
    model = make_model(model_stub)
    reply = await ask(model, system=("rules", "Operations you may use: `merge`, `replace`."))
    assert json.loads(reply.text) == {"patches": []}
    await model.close()


async def test_an_own_writer_writes_the_replies() -> None:
    stub = ModelStub(writer=lambda body: f"You said {body['messages'][0]['content']}")
    await stub.start()
    model = make_model(stub)
    assert (await ask(model, user="hello")).text == "You said hello"
    await model.close()
    await stub.stop()


async def test_queued_faults_come_first_and_then_the_plan() -> None:
    stub = ModelStub(plan=lambda _: Fault(kind=FaultKind.REJECT, status=529))
    stub.queue_faults(None, Fault(kind=FaultKind.REJECT, status=429, retry_after="3"))
    await stub.start()
    assert [(await _post(stub, _body()))[0] for _ in range(3)] == [200, 429, 529]
    await stub.stop()


def test_random_faults_are_the_same_for_the_same_seed_and_come_at_their_rates() -> None:
    rates = {
        Fault(kind=FaultKind.REJECT, status=529): 0.2,
        Fault(kind=FaultKind.ABORT): 0.1,
    }
    sequences = []
    for seed in (1, 1, 2):
        plan = random_faults(rates, seed)
        sequences.append([fault and fault.kind for fault in (plan({}) for _ in range(2000))])
    assert sequences[0] == sequences[1] != sequences[2]
    assert 300 < sequences[0].count(FaultKind.REJECT) < 500
    assert 130 < sequences[0].count(FaultKind.ABORT) < 270
    with pytest.raises(ValueError, match="at most 1"):
        random_faults({Fault(kind=FaultKind.ABORT): 1.5}, 1)


async def test_every_call_is_written_to_the_file_without_keys_and_stories(tmp_path: Path) -> None:
    stub = ModelStub(ledger_path=tmp_path / "calls.jsonl")
    await stub.start()
    model = make_model(stub)
    reply = await ask(model)
    await _post(stub, b"{")
    await until(lambda: all(call.ended for call in stub.calls))
    text = (tmp_path / "calls.jsonl").read_text()
    first, second = map(json.loads, text.splitlines())
    assert first["billed"] == reply.usage.as_json()
    assert (first["completed"], first["status"], second["status"]) == (True, 200, 400)
    assert first["ended"] > first["started"]
    assert "Bearer" not in text
    assert "keeper of secrets" not in text
    await model.close()
    await stub.stop()


async def test_a_stub_that_stops_ends_the_calls_it_was_asked_to_stall() -> None:
    stub = ModelStub()
    stub.queue_faults(Fault(kind=FaultKind.STALL, after=1))
    await stub.start()
    task = asyncio.create_task(_post(stub, _body()))
    await until(lambda: bool(stub.calls) and stub.calls[0].billed.total > 0)
    await stub.stop()
    with pytest.raises(aiohttp.ClientError):
        await task
    assert (await last_call(stub)).completed is False


async def test_serving_goes_on_until_it_is_cancelled(
    unused_tcp_port_factory: Callable[[], int],
) -> None:
    stub, ready = ModelStub(), list[str]()
    port = unused_tcp_port_factory()
    task = asyncio.create_task(serve("127.0.0.1", port, stub, ready.append))
    await until(lambda: bool(ready))
    assert ready == [f"http://127.0.0.1:{port}"]
    assert (await _post(stub, _body()))[0] == 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(aiohttp.ClientConnectionError):
        await _post(stub, _body())
