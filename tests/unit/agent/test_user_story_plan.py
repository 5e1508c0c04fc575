"""What a submission may ask for, and what is filled in."""

from datetime import date

import pytest

from service.agent.offline_model import OfflineModel
from service.agent.prompts import load_prompts
from service.agent.user_story import UserStoryAgent
from service.domain.errors import InvalidInput
from service.domain.iterations import ITERATIONS, PRODUCT_TYPES
from service.domain.job import JsonObject

AGENT = UserStoryAgent(OfflineModel(pace=0), load_prompts(), today=lambda: date(2026, 12, 1))
STORY = "As a user, I want to log in"


def refused(
    iterations: list[str] | None = None,
    options: JsonObject | None = None,
    mode: str = "individual",
    story: str = STORY,
) -> tuple[str, list[str]]:
    with pytest.raises(InvalidInput) as caught:
        AGENT.plan(story, mode, iterations, options or {})
    return caught.value.code, [error.field for error in caught.value.errors]


def test_a_story_alone_gets_roles_validation_and_security_verified() -> None:
    plan = AGENT.plan(STORY, "individual", None, {})
    assert plan.iterations == ("user-roles", "validation", "security")
    assert plan.options == {"verify": True, "quality": "balanced"}


def test_iterations_run_in_the_registrys_order() -> None:
    plan = AGENT.plan(STORY, "individual", ["security", "accessibility", "user-roles"], {})
    assert plan.iterations == ("user-roles", "accessibility", "security")


def test_unknown_repeated_and_no_iterations_are_refused_by_name() -> None:
    assert refused(["validation", "nope"]) == ("UNKNOWN_ITERATION", ["iterations[1]"])
    assert refused(["consolidation"]) == ("UNKNOWN_ITERATION", ["iterations[0]"])
    assert refused(["security", "security"]) == ("VALIDATION_ERROR", ["iterations[1]"])
    assert refused([]) == ("VALIDATION_ERROR", ["iterations"])


@pytest.mark.parametrize("product_type", PRODUCT_TYPES)
def test_a_workflow_runs_all_that_apply_and_then_consolidates(product_type: str) -> None:
    plan = AGENT.plan(STORY, "workflow", None, {"productType": product_type})
    *chosen, last = plan.iterations
    assert last == "consolidation"
    assert chosen == [i for i in ITERATIONS if product_type in ITERATIONS[i].applies_to]
    assert len(chosen) == (10 if product_type == "api" else 11)


def test_a_workflow_needs_a_product_type_and_takes_no_iterations() -> None:
    assert refused(mode="workflow") == ("VALIDATION_ERROR", ["options.productType"])
    options = {"productType": "web"}
    assert refused(["security"], options, "workflow") == ("VALIDATION_ERROR", ["iterations"])
    assert refused(mode="interactive") == ("VALIDATION_ERROR", ["mode"])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"verify": "yes"}, "options.verify"),
        ({"colour": "red"}, "options.colour"),
        ({"productType": "toaster"}, "options.productType"),
        ({"product_type": "web"}, "options.product_type"),
        ({"quality": "superb"}, "options.quality"),
        ({"deadlineSeconds": 0}, "options.deadlineSeconds"),
        ({"deadlineSeconds": float("nan")}, "options.deadlineSeconds"),
        ({"productContext": {"keyFeatures": ["a", 7]}}, "options.productContext.keyFeatures[1]"),
        ({"productContext": {"name": "x" * 201}}, "options.productContext.name"),
    ],
)
def test_each_bad_option_is_named(options: JsonObject, field: str) -> None:
    assert refused(options=options) == ("VALIDATION_ERROR", [field])


def test_unknown_and_retired_models_are_refused_at_submission() -> None:
    assert refused(options={"model": "gpt"}) == ("UNKNOWN_MODEL", ["options.model"])
    assert refused(options={"model": "claude-sonnet-4-5"})[0] == "UNKNOWN_MODEL"


def test_options_are_stored_as_given_with_defaults_filled_in() -> None:
    options = {
        "verify": False,
        "productType": "api",
        "productContext": {"name": " Shop ", "keyFeatures": ["fast"]},
        "model": "claude-haiku-5-5",
        "deadlineSeconds": 600,
    }
    stored = AGENT.plan(STORY, "individual", None, options).options
    context = {"name": "Shop", "keyFeatures": ["fast"]}
    assert stored == {**options, "productContext": context, "quality": "balanced"}


def test_a_story_without_text_is_refused() -> None:
    assert refused(story=" \n\t ") == ("VALIDATION_ERROR", ["story"])
    assert refused(story="\u200b\u202e") == ("VALIDATION_ERROR", ["story"])


def test_more_text_iterations_and_verification_are_estimated_to_cost_more() -> None:
    def estimate(story: str, iterations: list[str], *, verify: bool) -> int:
        return AGENT.plan(story, "individual", iterations, {"verify": verify}).estimated_tokens

    small = estimate(STORY, ["security"], verify=False)
    assert small > 1000
    assert small < estimate(STORY, ["security"], verify=True)
    assert small < estimate(STORY * 50, ["security"], verify=False)
    assert 2 * small < estimate(STORY, ["validation", "security"], verify=True) < 20_000
