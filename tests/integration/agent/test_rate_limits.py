"""Rate limits: what the stand-in for the API enforces, and what the adapter reads of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.agent.anthropic_limits import read_limits
from service.agent.anthropic_model import AnthropicModel
from service.agent.model_stub import Fault, FaultKind, ModelStub
from service.domain.errors import ModelFailure
from service.domain.upstream import Observed, Rates
from service.domain.usage import UsageMeter
from tests.fixtures.waiting import eventually
from tests.integration.agent.calls import ask, make_model

# A quarter of a minute's limit may be taken at once.
LIMITS = Rates(requests=8, input=4_000_000, output=400_000)


def listening() -> tuple[UsageMeter, list[Observed]]:
    meter, heard = UsageMeter(), list[Observed]()
    meter.on_limits = heard.append
    return meter, heard


@asynccontextmanager
async def calling(
    stub: ModelStub,
) -> AsyncIterator[AnthropicModel]:
    """An adapter that calls a server, both to be closed at the end."""
    await stub.start()
    model = make_model(stub)
    yield model
    await model.close()
    await stub.stop()


@pytest.fixture
async def limited() -> AsyncIterator[AnthropicModel]:
    """An adapter that calls a server with limits."""
    async with calling(ModelStub(limits=LIMITS)) as model:
        yield model


@pytest.fixture
async def model(model_stub: ModelStub) -> AsyncIterator[AnthropicModel]:
    """An adapter that calls a server to which something happens."""
    model = make_model(model_stub)
    yield model
    await model.close()


async def test_an_answer_tells_the_limits_and_what_is_left_of_them(limited: AnthropicModel) -> None:
    meter, heard = listening()
    await ask(limited, meter)
    (observed,) = heard
    assert observed.limits == LIMITS
    assert observed.remaining.requests == 1
    assert (observed.remaining.input or 0) < 1_000_000


async def test_a_call_too_many_is_refused_with_the_time_to_wait(limited: AnthropicModel) -> None:
    for _ in range(2):
        await ask(limited)
    meter, heard = listening()
    with pytest.raises(ModelFailure, match="status 429") as caught:
        await ask(limited, meter)
    assert caught.value.is_overload
    assert caught.value.retry_after is not None
    assert 1 <= caught.value.retry_after <= 8
    assert [observed.limits for observed in heard] == [LIMITS]
    assert meter.usage.total == 0


async def test_output_is_charged_while_it_is_written() -> None:
    stub = ModelStub(limits=Rates(output=4))
    stub.queue_faults(Fault(kind=FaultKind.STALL, after=1_000_000))
    async with calling(stub) as model:
        endless = asyncio.create_task(ask(model))
        await eventually(lambda: [call for call in stub.calls if call.billed.output > 1])
        with pytest.raises(ModelFailure, match="status 429"):
            await ask(model)
        assert not endless.done()
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)


async def test_what_the_cache_gives_is_not_charged() -> None:
    stub, (meter, heard) = ModelStub(limits=Rates(input=4_000_000)), listening()
    async with calling(stub) as model:
        for _ in range(2):
            await ask(model, meter)
    first, second = (1_000_000 - (observed.remaining.input or 0) for observed in heard)
    used = [call.billed for call in stub.calls]
    assert first > used[0].input
    assert second - first < used[1].cache_read


@pytest.mark.parametrize("status", [429, 529])
async def test_an_overloaded_upstream_is_told_apart(
    model: AnthropicModel, model_stub: ModelStub, status: int
) -> None:
    model_stub.queue_faults(Fault(kind=FaultKind.REJECT, status=status))
    with pytest.raises(ModelFailure) as caught:
        await ask(model)
    assert caught.value.is_overload


async def test_an_overload_in_the_middle_of_a_reply_is_one_too(
    model: AnthropicModel, model_stub: ModelStub
) -> None:
    model_stub.queue_faults(Fault(kind=FaultKind.ERROR_EVENT, error_type="overloaded_error"))
    with pytest.raises(ModelFailure) as caught:
        await ask(model)
    assert caught.value.is_overload


@pytest.mark.parametrize("status", [500, 503])
async def test_other_failures_of_the_upstream_are_none(
    model: AnthropicModel, model_stub: ModelStub, status: int
) -> None:
    model_stub.queue_faults(Fault(kind=FaultKind.REJECT, status=status))
    with pytest.raises(ModelFailure) as caught:
        await ask(model)
    assert not caught.value.is_overload


@pytest.mark.parametrize("text", ["", "many", "-1", "1.5", "١٢", "9" * 40])
def test_a_limit_that_is_no_number_is_no_limit(text: str) -> None:
    headers = {"anthropic-ratelimit-requests-limit": text}
    assert read_limits(headers).limits == Rates()
