"""Iterations are shown in their order, without their prompts."""

from typing import Any

import orjson
import pytest
from aiohttp import web

from service.agent.prompts import load_prompts
from service.api.iterations import CATEGORIES, get_iteration, list_iterations
from service.api.problems import Problem
from service.domain.errors import InvalidInput
from service.domain.iterations import CONSOLIDATION, ITERATIONS, PRODUCT_TYPES
from tests.unit.api.requests import a_request


def body_of(response: web.StreamResponse) -> bytes:
    """The bytes of a response."""
    assert isinstance(response, web.Response)
    assert isinstance(response.body, bytes)
    return response.body


async def listed(query: str = "") -> list[dict[str, Any]]:
    """The iterations that a query finds."""
    document = orjson.loads(body_of(await list_iterations(a_request(query))))
    assert document.keys() == {"iterations"}
    found: list[dict[str, Any]] = document["iterations"]
    return found


def ids(found: list[dict[str, Any]]) -> list[str]:
    """Their ids."""
    return [iteration["id"] for iteration in found]


async def test_all_that_can_be_chosen_are_listed_in_their_order() -> None:
    found = await listed()
    assert ids(found) == list(ITERATIONS)
    assert [iteration["order"] for iteration in found] == sorted(i["order"] for i in found)


@pytest.mark.parametrize("product_type", PRODUCT_TYPES)
async def test_a_type_of_product_has_its_iterations(product_type: str) -> None:
    found = await listed(f"productType={product_type}")
    assert ids(found) == [
        iteration.id for iteration in ITERATIONS.values() if product_type in iteration.applies_to
    ]
    assert all(product_type in iteration["appliesTo"] for iteration in found)


async def test_categories_divide_the_iterations() -> None:
    by_category = [ids(await listed(f"category={category}")) for category in CATEGORIES]
    assert all(by_category)
    assert sorted(i for found in by_category for i in found) == sorted(ITERATIONS)


async def test_filters_narrow_one_another() -> None:
    assert ids(await listed("productType=api&category=responsive")) == []


@pytest.mark.parametrize(
    ("query", "field"), [("productType=tv", "productType"), ("category=x", "category")]
)
async def test_an_unknown_filter_is_refused(query: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await listed(query)
    assert [error.field for error in caught.value.errors] == [field]


@pytest.mark.parametrize("iteration", [*ITERATIONS, CONSOLIDATION.id])
async def test_every_iteration_that_a_job_may_have_can_be_read(iteration: str) -> None:
    document = orjson.loads(body_of(await get_iteration(a_request(path={"id": iteration}))))
    assert document["id"] == iteration
    assert document["mayChange"]


async def test_an_unknown_iteration_is_not_found() -> None:
    with pytest.raises(Problem) as caught:
        await get_iteration(a_request(path={"id": "fluff"}))
    assert (caught.value.status, caught.value.code) == (404, "NOT_FOUND")


async def test_prompts_are_never_shown() -> None:
    shown = body_of(await list_iterations(a_request())).decode()
    for iteration, prompt in load_prompts().by_iteration.items():
        lines = [line for line in prompt.splitlines() if len(line) > 40]
        assert lines
        assert not [line for line in lines if line in shown], iteration
