"""What the adapter keeps to itself, and what it does not put up with."""

import logging
import traceback
from datetime import date
from decimal import Decimal

import pytest

from service.agent.anthropic_model import AnthropicModel, MissingApiKey
from service.agent.model_stub import Fault, FaultKind, ModelStub
from service.domain.errors import FailureKind, ModelFailure
from service.domain.usage import Usage, UsageMeter
from tests.integration.agent.calls import KEY, STORY, ask, last_call, make_model, make_request


def _today() -> date:
    return date(2026, 11, 24)


async def test_a_reply_longer_than_the_cap_is_a_permanent_failure() -> None:
    stub = ModelStub(writer=lambda _: "x" * 5000, piece_length=1000)
    await stub.start()
    model = make_model(stub, max_reply_bytes=3500)
    meter, pieces = UsageMeter(), list[str]()
    with pytest.raises(ModelFailure) as caught:
        await model.complete(make_request(), meter, pieces.append)
    assert (caught.value.code, caught.value.kind) == ("MODEL_OUTPUT_INVALID", FailureKind.PERMANENT)
    assert len(pieces) == 3
    assert meter.usage.output == 1000
    await model.close()
    await stub.stop()


async def test_the_cap_counts_bytes_not_characters() -> None:
    stub = ModelStub(writer=lambda _: "é" * 1000)
    await stub.start()
    model = make_model(stub, max_reply_bytes=1999)
    with pytest.raises(ModelFailure, match="1999 bytes"):
        await ask(model)
    await model.close()
    await stub.stop()


async def test_an_event_that_does_not_end_is_cut_off_before_it_fills_the_memory(
    model_stub: ModelStub,
) -> None:
    model, meter = make_model(model_stub), UsageMeter()
    model_stub.queue_faults(Fault(kind=FaultKind.GIANT_EVENT))
    with pytest.raises(ModelFailure, match="more than 8388608 bytes") as caught:
        await ask(model, meter)
    assert caught.value.kind is FailureKind.TRANSIENT
    assert meter.usage.output > 0
    assert (await last_call(model_stub)).closed_early
    await model.close()


async def test_an_error_page_that_does_not_end_is_cut_off_as_well(model_stub: ModelStub) -> None:
    model = make_model(model_stub)
    page = Fault(kind=FaultKind.REJECT, status=502, message="x" * (9 << 20))
    model_stub.queue_faults(page)
    with pytest.raises(ModelFailure, match="more than 8388608 bytes") as caught:
        await ask(model)
    assert caught.value.kind is FailureKind.TRANSIENT
    await model.close()


async def test_text_that_does_not_end_is_cut_off_at_the_length_of_a_reply(
    model_stub: ModelStub,
) -> None:
    model = make_model(model_stub)
    model_stub.queue_faults(Fault(kind=FaultKind.FLOOD))
    with pytest.raises(ModelFailure, match="longer than 1048576 bytes") as caught:
        await ask(model)
    assert caught.value.kind is FailureKind.PERMANENT
    assert (await last_call(model_stub)).closed_early
    await model.close()


@pytest.mark.parametrize("key", [None, "", "  \n"])
def test_a_missing_key_is_said_up_front(key: str | None) -> None:
    with pytest.raises(MissingApiKey, match="ANTHROPIC_API_KEY"):
        AnthropicModel(key, today=_today)


@pytest.mark.parametrize("key", ["sk-secret\nx", "sk-secret x", "sk-sécret", "sk-secret\x00"])
def test_an_impossible_key_is_refused_without_quoting_it(key: str) -> None:
    with pytest.raises(MissingApiKey) as caught:
        AnthropicModel(key, today=_today)
    assert "cret" not in f"{caught.value!r}{caught.value}"


async def test_a_key_read_with_its_line_end_is_sent_without(model_stub: ModelStub) -> None:
    model = AnthropicModel(f"{KEY}\n", today=_today, base_url=model_stub.address)
    await ask(model)
    assert model_stub.calls[0].headers["authorization"] == f"Bearer {KEY}"
    await model.close()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.REJECT, status=400),
        Fault(kind=FaultKind.REJECT, status=401),
        Fault(kind=FaultKind.REJECT, status=529),
        Fault(kind=FaultKind.ERROR_EVENT),
        Fault(kind=FaultKind.ABORT),
        Fault(kind=FaultKind.MALFORMED_EVENT),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
async def test_no_failure_and_no_log_holds_the_key_the_story_or_the_providers_words(
    model_stub: ModelStub, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    caplog.set_level(logging.DEBUG)
    model = make_model(model_stub)
    model_stub.queue_faults(fault)
    with pytest.raises(ModelFailure) as caught:
        await ask(model)
    error = caught.value
    shown = "".join(traceback.format_exception(error))
    told = f"{error!s} {error!r} {error.message} {vars(error)} {shown} {model!r} {caplog.text}"
    for secret in (KEY, STORY, "The stub was told to fail"):
        assert secret not in told
    await model.close()


async def test_the_price_is_that_of_today(model_stub: ModelStub) -> None:
    usage = Usage(cache_read=1_000_000)
    early = make_model(model_stub, today=lambda: date(2026, 10, 1))
    late = make_model(model_stub)
    assert early.cost_usd("claude-sonnet-5-5", usage) == Decimal("0.20")
    assert late.cost_usd("claude-sonnet-5-5", usage) == Decimal("0.10")
    assert late.cost_usd("unheard-of", usage) is None


async def test_the_estimate_of_the_input_is_not_below_what_is_billed(model_stub: ModelStub) -> None:
    model = make_model(model_stub)
    reply = await ask(model)
    read = reply.usage.input + reply.usage.cache_read + reply.usage.cache_write
    assert read <= model.estimate_input_tokens(make_request()) < 2 * read
    assert model.name == "anthropic"
    await model.close()


async def test_an_unusable_address_is_a_matter_of_configuration(model_stub: ModelStub) -> None:
    model = make_model(model_stub, base_url="ftp://127.0.0.1:1")
    with pytest.raises(ModelFailure) as caught:
        await ask(model)
    assert caught.value.kind is FailureKind.CONFIGURATION
    await model.close()
