"""The registry of iterations."""

from itertools import pairwise

import pytest

from service.domain.iterations import (
    CONSOLIDATION,
    DEFAULT_ITERATIONS,
    ITERATIONS,
    PRODUCT_TYPES,
    applicable,
    find_iteration,
)
from service.domain.story import LIST_PATHS, PATHS


def test_there_are_twelve_in_strict_order_with_known_paths() -> None:
    assert len(ITERATIONS) == 12
    assert all(one.order < two.order for one, two in pairwise(ITERATIONS.values()))
    assert all(set(each.paths) <= set(PATHS) for each in ITERATIONS.values())
    assert set(DEFAULT_ITERATIONS) <= set(ITERATIONS)


def test_each_may_ask_questions_and_note_edge_cases_and_non_goals() -> None:
    always = {"openQuestions", "edgeCases", "nonGoals"}
    assert all(always <= set(each.paths) for each in ITERATIONS.values())


def test_only_user_roles_may_change_the_sentence() -> None:
    assert [each.id for each in ITERATIONS.values() if "story.asA" in each.paths] == ["user-roles"]


@pytest.mark.parametrize("product_type", PRODUCT_TYPES)
def test_only_the_fitting_responsive_iteration_applies(product_type: str) -> None:
    responsive = [e.id for e in applicable(product_type) if e.category == "responsive"]
    expected = {"mobile-native": ["responsive-native"], "api": []}
    assert responsive == expected.get(product_type, ["responsive-web"])
    others = [e.id for e in ITERATIONS.values() if e.category != "responsive"]
    assert [e.id for e in applicable(product_type) if e.category != "responsive"] == others


def test_consolidation_can_be_found_but_is_not_listed() -> None:
    assert find_iteration("consolidation") is CONSOLIDATION
    assert "consolidation" not in ITERATIONS
    assert set(CONSOLIDATION.paths) == set(LIST_PATHS)
    assert find_iteration("palmistry") is None
