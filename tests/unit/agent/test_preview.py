"""A workflow's calls and cost are estimated before anybody submits it."""

from datetime import date
from decimal import Decimal

import orjson
import pytest

from service.agent.estimation import FEWEST_STEPS, most_steps, usual_steps
from service.agent.iteration_run import IterationRun, Step
from service.agent.offline_model import OFFLINE, OfflineModel
from service.agent.preview import TYPICAL_STORY, UserStoryPreviewer
from service.agent.prompting import Assignment
from service.agent.prompts import load_prompts
from service.agent.user_story import UserStoryAgent
from service.domain.attempt import Checkpoint
from service.domain.errors import InvalidInput
from service.domain.intake import read_story
from service.domain.iterations import ITERATIONS, PRODUCT_TYPES
from service.domain.models import ModelChoice
from service.domain.pricing import cost_usd
from service.domain.usage import Usage
from service.ports.preview import WorkflowPreview

TODAY = date(2026, 11, 24)
PROMPTS = load_prompts()
SMALL, MIDDLE = "claude-haiku-5-5", "claude-sonnet-5-5"


def price(model: str, usage: Usage) -> Decimal | None:
    return cost_usd(model, usage, TODAY)


PREVIEWER = UserStoryPreviewer(PROMPTS, price, today=lambda: TODAY)


def preview(
    product_type: str = "web",
    *,
    quality: str = "balanced",
    model: str | None = None,
    verify: bool = True,
) -> WorkflowPreview:
    return PREVIEWER.preview(product_type, quality=quality, model=model, verify=verify)


# --- which calls there can be ------------------------------------------------------------------

ADDITION = {"op": "add", "path": "edgeCases", "text": "The session ends meanwhile", "reason": "x"}
USABLE = orjson.dumps({"patches": [ADDITION]}).decode()
NOTHING = orjson.dumps({"patches": []}).decode()
FAILS = orjson.dumps({"score": 0.1, "issues": []}).decode()
PASSES = orjson.dumps({"score": 0.9, "issues": []}).decode()


def steps_taken(*replies: str, verify: bool = True) -> tuple[Step, ...]:
    """The steps that an iteration takes when these are its replies."""
    run = IterationRun(
        Assignment(
            iteration=ITERATIONS["security"],
            story=read_story("As a user, I want to log in"),
            original="",
            product={},
            verify=verify,
            models=ModelChoice(MIDDLE, SMALL),
            prompts=PROMPTS,
        )
    )
    taken = []
    for text in replies:
        assert run.due is not None
        taken.append(run.due)
        run.receive(
            Checkpoint(
                step=run.due,
                text=text,
                stop_reason="end_turn",
                model=MIDDLE,
                usage=Usage(),
                cost_usd=None,
                duration_ms=1,
            )
        )
    assert run.due is None
    return tuple(taken)


def test_an_iteration_that_finds_nothing_takes_the_fewest_calls() -> None:
    assert steps_taken(NOTHING) == FEWEST_STEPS


def test_an_iteration_that_passes_takes_the_usual_calls() -> None:
    assert steps_taken(USABLE, PASSES) == usual_steps(verify=True)
    assert steps_taken(USABLE, verify=False) == usual_steps(verify=False)


def test_an_iteration_in_which_all_goes_wrong_takes_the_most_calls() -> None:
    assert steps_taken("oops", USABLE, FAILS, USABLE, FAILS) == most_steps(verify=True)
    assert steps_taken("oops", USABLE, verify=False) == most_steps(verify=False)


# --- what they come to -------------------------------------------------------------------------


@pytest.mark.parametrize("product_type", PRODUCT_TYPES)
@pytest.mark.parametrize(("verify", "usual", "most"), [(True, 2, 5), (False, 1, 2)])
def test_every_iteration_that_applies_and_the_consolidation_are_counted(
    product_type: str, verify: bool, usual: int, most: int
) -> None:
    seen = preview(product_type, verify=verify)
    applying = [i for i in ITERATIONS if product_type in ITERATIONS[i].applies_to]
    number = len(applying) + 1
    assert seen.iterations == (*applying, "consolidation")
    counted = (seen.least.calls, seen.usual.calls, seen.most.calls)
    assert counted == (number, number * usual, number * most)


@pytest.mark.parametrize("product_type", PRODUCT_TYPES)
@pytest.mark.parametrize("verify", [True, False])
def test_what_is_usual_is_what_a_submission_reserves(product_type: str, verify: bool) -> None:
    agent = UserStoryAgent(None, PROMPTS, today=lambda: TODAY)
    options = {"productType": product_type, "verify": verify}
    plan = agent.plan("x" * TYPICAL_STORY, "workflow", None, options)
    seen = preview(product_type, verify=verify)
    assert seen.usual.tokens == plan.estimated_tokens
    assert seen.iterations == plan.iterations


def test_more_calls_are_more_tokens_and_more_money() -> None:
    seen = preview()
    assert seen.least.tokens < seen.usual.tokens < seen.most.tokens
    least, usual, most = seen.least.cost_usd, seen.usual.cost_usd, seen.most.cost_usd
    assert least is not None
    assert usual is not None
    assert most is not None
    assert 0 < least < usual < most


def test_drafts_cost_what_the_drafting_model_costs_and_reviews_what_the_other_one_does() -> None:
    balanced, only_small = preview(), preview(model=SMALL)
    unreviewed = preview(verify=False)
    assert balanced.models == (MIDDLE, SMALL)
    assert only_small.models == (SMALL,)
    assert unreviewed.models == (MIDDLE,)
    drafts, reviewed = unreviewed.usual.cost_usd, balanced.usual.cost_usd
    small, small_drafts = only_small.usual.cost_usd, preview(model=SMALL, verify=False)
    assert drafts is not None
    assert reviewed is not None
    assert small is not None
    assert small_drafts.usual.cost_usd is not None
    assert reviewed - drafts == small - small_drafts.usual.cost_usd


def test_an_unknown_price_leaves_the_cost_unknown_and_the_rest_known() -> None:
    def only_drafts_are_priced(model: str, usage: Usage) -> Decimal | None:
        return price(model, usage) if model == MIDDLE else None

    previewer = UserStoryPreviewer(PROMPTS, only_drafts_are_priced, today=lambda: TODAY)
    seen = previewer.preview("web", quality="balanced", model=None, verify=True)
    assert seen.usual.cost_usd is None
    assert seen.most.cost_usd is None
    assert seen.usual.tokens == preview().usual.tokens


def test_offline_nothing_is_paid_and_no_model_is_named() -> None:
    previewer = UserStoryPreviewer(
        PROMPTS, OfflineModel().cost_usd, today=lambda: TODAY, only_model=OFFLINE
    )
    seen = previewer.preview("web", quality="premium", model=None, verify=True)
    assert seen.models == (OFFLINE,)
    assert seen.most.cost_usd == 0
    assert seen.most.calls == 60


@pytest.mark.parametrize(
    ("quality", "model", "code", "field"),
    [
        ("superb", None, "VALIDATION_ERROR", "quality"),
        ("fast", "gpt", "UNKNOWN_MODEL", "model"),
    ],
)
def test_what_cannot_be_submitted_cannot_be_previewed(
    quality: str, model: str | None, code: str, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        preview(quality=quality, model=model)
    assert (caught.value.code, [e.field for e in caught.value.errors]) == (code, [field])


def test_a_model_that_is_retired_by_today_is_refused() -> None:
    late = UserStoryPreviewer(PROMPTS, price, today=lambda: date(2026, 12, 1))
    assert preview(model="claude-sonnet-4-5").models == ("claude-sonnet-4-5",)
    with pytest.raises(InvalidInput):
        late.preview("web", quality="fast", model="claude-sonnet-4-5", verify=True)
