"""Estimates what a workflow would do and cost, for a story of typical length."""

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import TypeAlias

from service.agent.estimation import (
    FEWEST_STEPS,
    EstimatedCall,
    Estimator,
    most_steps,
    usual_steps,
)
from service.agent.iteration_run import Step
from service.agent.prompts import Prompts
from service.agent.submission import WORKFLOW, choose_iterations
from service.domain.models import ModelChoice, choose_models
from service.domain.usage import Usage
from service.ports.preview import Estimate, WorkflowPreview

TYPICAL_STORY = 1000

Pricing: TypeAlias = Callable[[str, Usage], Decimal | None]


class UserStoryPreviewer:
    """Previews what `UserStoryAgent` would do; `price` is what one call costs.

    `only_model` names the one model of an adapter that has no choice of models.
    """

    def __init__(
        self,
        prompts: Prompts,
        price: Pricing,
        *,
        today: Callable[[], date],
        only_model: str | None = None,
    ) -> None:
        self._estimator = Estimator(prompts, TYPICAL_STORY)
        self._price = price
        self._today = today
        self._only_model = only_model

    def preview(
        self, product_type: str, *, quality: str, model: str | None, verify: bool
    ) -> WorkflowPreview:
        """Estimate a workflow; raises `InvalidInput` naming `quality` or `model`."""
        models = choose_models(quality, model, on=self._today())
        if self._only_model is not None:
            models = ModelChoice(self._only_model, self._only_model)
        iterations = choose_iterations(WORKFLOW, None, product_type)

        def estimate(steps: Sequence[Step]) -> Estimate:
            return self._sum(self._estimator.calls(iterations, steps), models)

        usual = usual_steps(verify=verify)
        return WorkflowPreview(
            iterations=iterations,
            models=tuple(dict.fromkeys(_model_for(step, models) for step in usual)),
            story_characters=TYPICAL_STORY,
            least=estimate(FEWEST_STEPS),
            usual=estimate(usual),
            most=estimate(most_steps(verify=verify)),
        )

    def _sum(self, calls: Sequence[EstimatedCall], models: ModelChoice) -> Estimate:
        # Call by call, because a sum of calls would fall into another tier of prices.
        costs = [self._price(_model_for(call.step, models), call.usage) for call in calls]
        known = [cost for cost in costs if cost is not None]
        return Estimate(
            calls=len(calls),
            tokens=sum(call.usage.total for call in calls),
            cost_usd=sum(known, Decimal(0)) if len(known) == len(costs) else None,
        )


def _model_for(step: Step, models: ModelChoice) -> str:
    return models.verify if step.is_verification else models.draft
