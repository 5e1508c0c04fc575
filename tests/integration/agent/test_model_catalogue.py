"""What the provider says of its models is read through the SDK, from a list of the real form."""

from collections.abc import AsyncIterator
from datetime import date

import anthropic
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.agent.anthropic_model import AnthropicModel
from service.agent.model_stub import ModelStub
from service.domain.errors import FailureKind, ModelFailure
from service.domain.lifecycle import ModelLifecycle, Stage
from service.domain.models import KNOWN_MODELS
from tests.integration.agent.calls import KEY, make_model

SONNET = "claude-sonnet-5-5"


@pytest.fixture
async def model(model_stub: ModelStub) -> AsyncIterator[AnthropicModel]:
    model = make_model(model_stub)
    yield model
    await model.close()


@pytest.fixture
async def sdk(model_stub: ModelStub) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        api_key=KEY, base_url=model_stub.address, max_retries=0
    ) as client:
        yield client


async def test_a_model_is_active_deprecated_or_retired(
    model: AnthropicModel, model_stub: ModelStub
) -> None:
    assert await model.lifecycle(SONNET) == ModelLifecycle(Stage.ACTIVE)
    going = ModelLifecycle(Stage.DEPRECATED, date(2026, 11, 30))
    assert await model.lifecycle("claude-sonnet-4-5") == going
    gone = ModelLifecycle(Stage.RETIRED, date(2026, 6, 15))
    model_stub.catalogue.lifecycles["claude-opus-4"] = gone
    assert await model.lifecycle("claude-opus-4") == gone


async def test_a_model_that_nobody_knows_is_none(model: AnthropicModel) -> None:
    assert await model.lifecycle("claude-unheard-of") is None


async def test_a_key_that_is_refused_is_a_failure_and_no_unknown_model() -> None:
    stub = ModelStub(api_key="sk-another")
    await stub.start()
    model = make_model(stub)
    try:
        with pytest.raises(ModelFailure) as caught:
            await model.lifecycle(SONNET)
    finally:
        await model.close()
        await stub.stop()
    assert caught.value.kind is FailureKind.CONFIGURATION
    assert "401" in caught.value.message
    assert KEY not in caught.value.message


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(text="<html>Sign in</html>", content_type="text/html"),
        web.json_response({"type": "model", "id": SONNET}),
        web.json_response({"type": "model", "id": SONNET, "lifecycle": "hibernating"}),
        web.Response(text="{", content_type="application/json"),
        web.Response(status=404, text="no such page", content_type="text/html"),
    ],
    ids=["a page", "no lifecycle", "another lifecycle", "no JSON", "another 404"],
)
async def test_an_address_that_answers_with_something_else_is_a_failure(
    answer: web.Response,
) -> None:
    async def respond(request: web.Request) -> web.Response:
        return answer

    app = web.Application()
    app.router.add_get("/v1/models/{id}", respond)
    async with TestServer(app) as server:
        base_url = str(server.make_url(""))
        model = AnthropicModel(KEY, today=lambda: date(2026, 11, 24), base_url=base_url)
        with pytest.raises(ModelFailure):
            await model.lifecycle(SONNET)
        await model.close()


async def test_the_list_is_paged_both_ways(sdk: anthropic.AsyncAnthropic) -> None:
    known = list(KNOWN_MODELS)
    first = await sdk.models.list(limit=2)
    assert [each.id for each in first.data] == known[:2]
    assert (first.has_more, first.first_id, first.last_id) == (True, known[0], known[1])
    assert [each.id async for each in sdk.models.list(limit=2)] == known
    before = await sdk.models.list(before_id=known[3], limit=2)
    assert [each.id for each in before.data] == known[1:3]
    assert before.has_more is True
    whole = await sdk.models.list()
    assert (whole.has_more, whole.last_id) == (False, known[-1])


async def test_retired_models_are_listed_only_to_those_who_ask_for_them(
    sdk: anthropic.AsyncAnthropic, model_stub: ModelStub
) -> None:
    model_stub.catalogue.lifecycles = {
        "a": ModelLifecycle(Stage.RETIRED, date(2026, 6, 15)),
        "b": ModelLifecycle(Stage.ACTIVE),
    }
    assert [each.id async for each in sdk.models.list()] == ["b"]
    [retired] = [each async for each in sdk.models.list(lifecycle=["retired"])]
    assert (retired.id, retired.lifecycle, retired.type) == ("a", "retired", "model")
    assert retired.retires_at is not None
    model_stub.catalogue.lifecycles = {}
    empty = await sdk.models.list()
    assert (empty.data, empty.first_id, empty.has_more) == ([], None, False)


async def test_an_entry_has_the_limits_that_are_known(sdk: anthropic.AsyncAnthropic) -> None:
    entry = await sdk.models.retrieve(SONNET)
    assert entry.max_tokens == KNOWN_MODELS[SONNET].max_output
    assert (entry.max_input_tokens, entry.deprecated_at, entry.retires_at) == (None, None, None)
    assert entry.display_name == "Claude Sonnet 5 5"


@pytest.mark.parametrize("limit", [0, 1001])
async def test_a_page_has_a_size_that_the_real_api_takes(
    sdk: anthropic.AsyncAnthropic, limit: int
) -> None:
    with pytest.raises(anthropic.BadRequestError):
        await sdk.models.list(limit=limit)
