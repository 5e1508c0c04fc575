"""What a workflow would do and cost, before anybody submits one."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """So many calls and tokens, and their price: None if any price is unknown."""

    calls: int
    tokens: int
    cost_usd: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowPreview:
    """Which iterations would run and which models would be called, in their order.

    `least`: no iteration finds anything to add; `usual`: each is drafted and reviewed once, which
    is what a submission reserves; `most`: each needs every call it may take. All are estimates
    for a story of `story_characters`.
    """

    iterations: tuple[str, ...]
    models: tuple[str, ...]
    story_characters: int
    least: Estimate
    usual: Estimate
    most: Estimate


class WorkflowPreviewer(Protocol):
    """Whoever knows what a workflow's calls are made of."""

    def preview(
        self, product_type: str, *, quality: str, model: str | None, verify: bool
    ) -> WorkflowPreview:
        """Estimate a workflow; raises `InvalidInput` naming `quality` or `model`."""
        ...
