"""Whoever may read is told what a workflow would come to, and no job is made."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from service.agent.offline_model import OFFLINE, OfflineModel
from service.agent.preview import UserStoryPreviewer
from service.agent.prompts import load_prompts
from service.api.examples import EXAMPLES
from service.api.preview_documents import WorkflowPreviewDocument
from service.domain.usage import Usage
from tests.fixtures.api import PRICED_ON, RunningApi, running_api
from tests.fixtures.database import Observer, Stores
from tests.integration.api.exchanges import Log, exchange, logged, refusal

PREVIEW = "/api/v1/workflow/preview"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with logged(monkeypatch, caplog) as hearing:
        yield hearing


async def previewed(api: RunningApi, log: Log, query: str) -> WorkflowPreviewDocument:
    headers = api.sending(api.keys.alice_reads)
    answer = await exchange(api, log, "GET", f"{PREVIEW}?{query}", headers=headers)
    assert answer.status == 200, answer.body
    assert answer.document.keys() == {
        "productType",
        "verify",
        "iterations",
        "models",
        "assumedStoryCharacters",
        "calls",
        "tokens",
        "costUsd",
    }
    return WorkflowPreviewDocument.model_validate(answer.document)


async def test_a_product_type_is_enough(api: RunningApi, log: Log, observer: Observer) -> None:
    seen = await previewed(api, log, "productType=mobile-native")
    assert (seen.product_type, seen.verify) == ("mobile-native", True)
    assert seen.iterations[-1] == "consolidation"
    assert "responsive-native" in seen.iterations
    assert seen.models == ("claude-sonnet-5-5", "claude-haiku-5-5")
    calls = seen.calls
    assert (calls.min, calls.usual, calls.max) == (12, 24, 60)
    assert 0 < seen.tokens.min < seen.tokens.usual < seen.tokens.max
    assert seen.cost_usd is not None
    assert 0 < seen.cost_usd.min < seen.cost_usd.usual < seen.cost_usd.max
    assert await observer.value("SELECT count(*) FROM jobs") == 0


async def test_what_runs_is_what_a_submission_would_run(api: RunningApi, log: Log) -> None:
    seen = await previewed(api, log, "productType=api")
    job = await api.submit(agent="user-story", mode="workflow", options={"productType": "api"})
    assert tuple((await api.get(job))["iterations"]) == seen.iterations


async def test_the_example_is_of_what_would_run(api: RunningApi, log: Log) -> None:
    example = EXAMPLES["preview_workflow"][200]
    seen = await previewed(api, log, "productType=api")
    estimates = {"tokens", "cost_usd"}
    assert example.model_dump(exclude=estimates) == seen.model_dump(exclude=estimates)


async def test_quality_model_and_verification_are_chosen_as_for_a_job(
    api: RunningApi, log: Log
) -> None:
    fast = await previewed(api, log, "productType=web&quality=fast&verify=false")
    assert fast.models == ("claude-haiku-5-5",)
    assert (fast.calls.min, fast.calls.usual, fast.calls.max) == (12, 12, 24)
    one = await previewed(api, log, "productType=web&quality=fast&model=claude-opus-5-5")
    assert one.models == ("claude-opus-5-5",)


async def test_offline_it_says_so_and_costs_nothing(
    stores: Stores, redis_url: str, log: Log
) -> None:
    previewer = UserStoryPreviewer(
        load_prompts(), OfflineModel().cost_usd, today=lambda: PRICED_ON, only_model=OFFLINE
    )
    async with running_api(stores, redis_url, previewer=previewer) as offline:
        seen = await previewed(offline, log, "productType=web")
    assert seen.models == ("offline",)
    assert seen.cost_usd is not None
    assert (seen.cost_usd.min, seen.cost_usd.usual, seen.cost_usd.max) == (0, 0, 0)
    assert seen.calls.max == 60


async def test_an_unknown_price_is_no_price(stores: Stores, redis_url: str, log: Log) -> None:
    def unknown(model: str, usage: Usage) -> Decimal | None:
        return None

    previewer = UserStoryPreviewer(load_prompts(), unknown, today=lambda: PRICED_ON)
    async with running_api(stores, redis_url, previewer=previewer) as api:
        seen = await previewed(api, log, "productType=web")
    assert seen.cost_usd is None
    assert seen.tokens.usual > 0


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("", "VALIDATION_ERROR", "productType"),
        ("productType=", "VALIDATION_ERROR", "productType"),
        ("productType=tv", "VALIDATION_ERROR", "productType"),
        ("productType=web&quality=superb", "VALIDATION_ERROR", "quality"),
        ("productType=web&verify=yes", "VALIDATION_ERROR", "verify"),
        ("productType=web&model=gpt-2", "UNKNOWN_MODEL", "model"),
        ("productType=web&model=", "UNKNOWN_MODEL", "model"),
        ("productType=web&model=%ff%00", "UNKNOWN_MODEL", "model"),
    ],
)
async def test_what_is_wrong_is_named(
    api: RunningApi, log: Log, query: str, code: str, field: str
) -> None:
    answer = await refusal(api, log, "GET", f"{PREVIEW}?{query}", headers=api.sending())
    assert (answer.status, answer.document["code"]) == (400, code)
    assert [error["field"] for error in answer.document["errors"]] == [field]


async def test_a_key_that_may_read_is_needed(api: RunningApi, log: Log) -> None:
    path = f"{PREVIEW}?productType=web"
    assert (await refusal(api, log, "GET", path)).status == 401
    answer = await refusal(api, log, "GET", path, headers=api.sending(api.keys.admin))
    assert (answer.status, "jobs:read" in answer.document["detail"]) == (403, True)
