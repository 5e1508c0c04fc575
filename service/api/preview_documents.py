"""The documents about workflows that nobody has submitted yet."""

from decimal import Decimal
from typing import Self

from service.api.documents import Document
from service.ports.preview import Estimate, WorkflowPreview


class CountRange(Document):
    """An estimated number."""

    min: int
    """If no iteration finds anything to add."""
    usual: int
    """If each iteration is drafted and reviewed once."""
    max: int
    """If each iteration needs every call that it may take."""


class CostRange(Document):
    """An estimated cost, in US dollars."""

    min: float
    usual: float
    max: float

    @classmethod
    def of(cls, *costs: Decimal | None) -> Self | None:
        """Show a least, a usual and a greatest cost; None if any is unknown."""
        match costs:
            case Decimal() as least, Decimal() as usual, Decimal() as most:
                return cls(min=float(least), usual=float(usual), max=float(most))
            case _:
                return None


class WorkflowPreviewDocument(Document):
    """What a workflow would do and cost."""

    product_type: str
    verify: bool
    iterations: tuple[str, ...]
    """The iterations that would run, in their order."""
    models: tuple[str, ...]
    """The models that would be called; `offline` are rules that call nobody."""
    assumed_story_characters: int
    """How long a story the estimates are for."""
    calls: CountRange
    tokens: CountRange
    cost_usd: CostRange | None
    """Null if a price is unknown."""

    @classmethod
    def of(cls, preview: WorkflowPreview, *, product_type: str, verify: bool) -> Self:
        """Show a preview."""
        ends: tuple[Estimate, ...] = (preview.least, preview.usual, preview.most)
        return cls(
            product_type=product_type,
            verify=verify,
            iterations=preview.iterations,
            models=preview.models,
            assumed_story_characters=preview.story_characters,
            calls=_range(*(each.calls for each in ends)),
            tokens=_range(*(each.tokens for each in ends)),
            cost_usd=CostRange.of(*(each.cost_usd for each in ends)),
        )


def _range(least: int, usual: int, most: int) -> CountRange:
    return CountRange(min=least, usual=usual, max=most)
