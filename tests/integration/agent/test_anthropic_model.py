"""The adapter against a server that speaks Anthropic's API, and breaks it in every way."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.agent.anthropic_model import AnthropicModel
from service.agent.model_stub import Fault, FaultKind, ModelStub
from service.domain.errors import FailureKind, ModelFailure
from service.domain.usage import Usage, UsageMeter
from tests.integration.agent.calls import (
    KEY,
    SHARED_RULES,
    STORY,
    ask,
    last_call,
    make_model,
    make_request,
    until,
)


@pytest.fixture
async def model(model_stub: ModelStub) -> AsyncIterator[AnthropicModel]:
    """An adapter with short patience that calls the stub."""
    adapter = make_model(model_stub, idle_timeout=0.5, total_timeout=10.0)
    yield adapter
    await adapter.close()


async def fail(model: AnthropicModel, meter: UsageMeter, /, **changes: Any) -> ModelFailure:
    with pytest.raises(ModelFailure) as caught:
        await ask(model, meter, **changes)
    return caught.value


async def test_a_reply_has_its_text_its_reason_to_stop_and_what_was_billed(
    model: AnthropicModel, model_stub: ModelStub
) -> None:
    meter, pieces = UsageMeter(), list[str]()
    reply = await model.complete(make_request(), meter, pieces.append)
    call = await last_call(model_stub)
    assert "".join(pieces) == reply.text
    assert len(pieces) > 3
    assert [patch["op"] for patch in json.loads(reply.text)["patches"]] == ["add", "add"]
    assert (reply.stop_reason, reply.model) == ("end_turn", "claude-sonnet-5-5")
    assert reply.request_id == meter.request_id == call.id
    assert reply.usage == meter.usage == call.billed
    assert reply.usage.cache_write > 1024
    assert not reply.usage.estimated
    assert call.completed


async def test_the_request_is_what_current_models_accept(
    model: AnthropicModel, model_stub: ModelStub
) -> None:
    await ask(model, max_output_tokens=10_000_000)
    call = await last_call(model_stub)
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.headers["anthropic-version"]
    assert call.body.keys() == {
        *("model", "max_tokens", "system", "messages", "output_config", "stream")
    }
    assert call.body["messages"] == [{"role": "user", "content": STORY}]
    assert call.body["max_tokens"] == 128_000
    schema = call.body["output_config"]["format"]["schema"]
    assert "maxItems" not in schema["properties"]["patches"]
    assert "maxItems: 12" in schema["properties"]["patches"]["description"]


async def test_a_second_call_reads_the_shared_prefix_from_the_cache(
    model: AnthropicModel,
) -> None:
    first = await ask(model)
    same = await ask(model, user="another story")
    sibling = await ask(model, system=(SHARED_RULES, "Iteration: security."))
    assert same.usage.cache_read == first.usage.cache_write
    assert same.usage.cache_write == 0
    assert 0 < sibling.usage.cache_read < first.usage.cache_write
    assert sibling.usage.cache_write > 0


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 9])
async def test_at_most_four_prefixes_are_marked_the_widest_and_the_most_specific(
    model: AnthropicModel, model_stub: ModelStub, count: int
) -> None:
    await ask(model, system=tuple(f"rule {n}" for n in range(count)))
    system = (await last_call(model_stub)).body["system"]
    marked = [n for n, block in enumerate(system) if "cache_control" in block]
    assert marked == sorted({*range(count)[:1], *range(1, count)[-3:]})


async def test_finished_calls_share_a_connection(
    model: AnthropicModel, model_stub: ModelStub
) -> None:
    for _ in range(3):
        await ask(model)
    assert len({call.connection for call in model_stub.calls}) == 1


@pytest.mark.parametrize(
    ("fault", "reason"), [(FaultKind.REFUSE, "refusal"), (FaultKind.CUT, "max_tokens")]
)
async def test_refusals_and_cut_replies_are_replies(
    model: AnthropicModel, model_stub: ModelStub, fault: FaultKind, reason: str
) -> None:
    model_stub.queue_faults(Fault(kind=fault))
    reply = await ask(model)
    assert reply.stop_reason == reason
    assert reply.usage == (await last_call(model_stub)).billed


async def test_a_reply_without_content_is_empty_and_one_with_repeated_text_as_it_came(
    model: AnthropicModel, model_stub: ModelStub
) -> None:
    model_stub.queue_faults(Fault(kind=FaultKind.NO_CONTENT), Fault(kind=FaultKind.REPEATED_TEXT))
    empty, repeated, usual = await ask(model), await ask(model), await ask(model)
    assert (empty.text, empty.stop_reason) == ("", "end_turn")
    assert repeated.text == usual.text[:80] + usual.text
    assert repeated.usage.output == usual.usage.output


async def test_unknown_events_are_skipped(model: AnthropicModel, model_stub: ModelStub) -> None:
    model_stub.queue_faults(None, Fault(kind=FaultKind.UNKNOWN_EVENTS))
    assert (await ask(model)).text == (await ask(model)).text


async def test_a_reply_without_usage_is_kept_and_its_usage_estimated(
    model: AnthropicModel, model_stub: ModelStub
) -> None:
    model_stub.queue_faults(Fault(kind=FaultKind.NO_USAGE))
    reply = await ask(model)
    assert reply.usage.estimated
    assert reply.usage.input == model.estimate_input_tokens(make_request())
    assert reply.usage.output == -(-len(reply.text) // 4)


async def test_a_reply_counts_even_if_the_server_never_hangs_up(
    model: AnthropicModel, model_stub: ModelStub
) -> None:
    model_stub.queue_faults(Fault(kind=FaultKind.STALL, after=1_000_000))
    reply = await ask(model)
    assert not reply.usage.estimated


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "PROCESSING_ERROR", FailureKind.PERMANENT),
        (401, "MODEL_UNAVAILABLE", FailureKind.CONFIGURATION),
        (402, "MODEL_UNAVAILABLE", FailureKind.CONFIGURATION),
        (403, "MODEL_UNAVAILABLE", FailureKind.CONFIGURATION),
        (404, "PROCESSING_ERROR", FailureKind.PERMANENT),
        (413, "PROCESSING_ERROR", FailureKind.PERMANENT),
        (422, "PROCESSING_ERROR", FailureKind.PERMANENT),
        (429, "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
        (500, "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
        (529, "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
    ],
)
async def test_a_refused_call_is_classified_costs_nothing_and_is_not_repeated(
    model: AnthropicModel, model_stub: ModelStub, status: int, code: str, kind: FailureKind
) -> None:
    model_stub.queue_faults(Fault(kind=FaultKind.REJECT, status=status, retry_after="17"))
    meter = UsageMeter()
    failure = await fail(model, meter)
    assert (failure.code, failure.kind) == (code, kind)
    assert failure.retry_after == (17.0 if kind is FailureKind.TRANSIENT else None)
    assert meter.usage == Usage()
    assert len(model_stub.calls) == 1


async def test_a_rate_limit_without_a_hint_has_no_wait(
    model: AnthropicModel, model_stub: ModelStub
) -> None:
    model_stub.queue_faults(Fault(kind=FaultKind.REJECT, status=429))
    assert (await fail(model, UsageMeter())).retry_after is None


async def test_a_model_that_no_longer_exists_is_a_permanent_failure(model: AnthropicModel) -> None:
    failure = await fail(model, UsageMeter(), model="claude-unheard-of")
    assert (failure.code, failure.kind) == ("PROCESSING_ERROR", FailureKind.PERMANENT)


BROKEN = [
    Fault(kind=FaultKind.ERROR_EVENT),
    Fault(kind=FaultKind.ERROR_EVENT, error_type="api_error"),
    Fault(kind=FaultKind.ABORT),
    Fault(kind=FaultKind.END_EARLY),
    Fault(kind=FaultKind.STALL),
    Fault(kind=FaultKind.MALFORMED_EVENT),
    Fault(kind=FaultKind.NOT_UTF8),
]


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: fault.kind)
async def test_a_broken_stream_is_transient_and_what_it_used_is_known(
    model: AnthropicModel, model_stub: ModelStub, fault: Fault
) -> None:
    model_stub.queue_faults(fault)
    meter = UsageMeter()
    failure = await fail(model, meter)
    call = await last_call(model_stub)
    assert (failure.code, failure.kind) == ("MODEL_UNAVAILABLE", FailureKind.TRANSIENT)
    assert meter.usage.estimated
    assert (meter.usage.input, meter.usage.cache_write) == (
        call.billed.input,
        _written(call.billed),
    )
    assert meter.usage.output == 80 // 4
    assert (meter.model, meter.request_id) == ("claude-sonnet-5-5", call.id)
    assert len(model_stub.calls) == 1


async def test_a_reply_without_its_last_event_is_no_reply_but_its_usage_is_exact(
    model: AnthropicModel, model_stub: ModelStub
) -> None:
    model_stub.queue_faults(Fault(kind=FaultKind.END_EARLY, after=1_000_000))
    meter = UsageMeter()
    failure = await fail(model, meter)
    assert failure.kind is FailureKind.TRANSIENT
    assert meter.usage == (await last_call(model_stub)).billed


def _written(billed: Usage) -> int:
    assert billed.cache_write > 0
    return billed.cache_write


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.ABORT, after=None),
        Fault(kind=FaultKind.STALL, after=None),
        Fault(kind=FaultKind.NOT_A_STREAM),
    ],
    ids=lambda fault: fault.kind,
)
async def test_without_any_answer_the_input_is_estimated(
    model: AnthropicModel, model_stub: ModelStub, fault: Fault
) -> None:
    model_stub.queue_faults(fault)
    meter = UsageMeter()
    failure = await fail(model, meter)
    assert failure.kind is FailureKind.TRANSIENT
    estimate = model.estimate_input_tokens(make_request())
    assert meter.usage == Usage(input=estimate, estimated=True)


async def test_a_server_that_is_not_there_costs_nothing(model_stub: ModelStub) -> None:
    model = make_model(model_stub)
    await model_stub.stop()
    meter = UsageMeter()
    failure = await fail(model, meter)
    assert failure.kind is FailureKind.TRANSIENT
    assert meter.usage == Usage()
    await model.close()


async def test_a_drip_that_never_goes_idle_ends_at_the_overall_limit(model_stub: ModelStub) -> None:
    model = make_model(model_stub, idle_timeout=5.0, total_timeout=0.6)
    model_stub.queue_faults(Fault(kind=FaultKind.DRIP, delay=0.05))
    meter, started = UsageMeter(), time.monotonic()
    failure = await fail(model, meter)
    assert failure.kind is FailureKind.TRANSIENT
    assert time.monotonic() - started < 3.0
    assert (await last_call(model_stub)).closed_early
    assert meter.usage.output > 0
    await model.close()


async def test_cancelling_closes_the_connection_and_keeps_what_was_used(
    model: AnthropicModel, model_stub: ModelStub
) -> None:
    model_stub.queue_faults(Fault(kind=FaultKind.DRIP, delay=0.02))
    meter, pieces = UsageMeter(), list[str]()
    task = asyncio.create_task(model.complete(make_request(), meter, pieces.append))
    await until(lambda: len(pieces) >= 2)
    cancelled = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    call = await last_call(model_stub)
    assert call.closed_early
    assert not call.completed
    assert call.ended is not None
    assert call.ended - cancelled < 0.5
    assert meter.usage.estimated
    assert meter.usage.input == call.billed.input
    assert meter.usage.cache_write == call.billed.cache_write > 0
    assert meter.usage.output == -(-len("".join(pieces)) // 4)


async def test_a_listener_that_fails_ends_the_call_with_its_own_error(
    model: AnthropicModel, model_stub: ModelStub
) -> None:
    model_stub.queue_faults(Fault(kind=FaultKind.DRIP, delay=0.02))

    def listen(_: str) -> None:
        raise ValueError("the listener is broken")

    with pytest.raises(ValueError, match="the listener is broken"):
        await model.complete(make_request(), UsageMeter(), listen)
    assert (await last_call(model_stub)).closed_early
