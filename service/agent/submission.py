"""What a submission to the user-story agent may ask for, and its defaults."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from service.domain.errors import FieldError, InvalidInput
from service.domain.iterations import (
    CONSOLIDATION,
    DEFAULT_ITERATIONS,
    PRODUCT_TYPES,
    applicable,
    in_registry_order,
)
from service.domain.job import JsonObject
from service.domain.models import DEFAULT_QUALITY, choose_models
from service.domain.story import is_visible
from service.ports.options import StrictOptions, read_options

INDIVIDUAL = "individual"
WORKFLOW = "workflow"
_ECHO = 80
_LONGEST_DEADLINE = 86_400

_Short = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]
_Long = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)]


class ProductContext(StrictOptions):
    """Facts about the product that a story belongs to."""

    name: _Short | None = None
    description: _Long | None = None
    audience: _Long | None = None
    key_features: Annotated[list[_Short], Field(max_length=20)] | None = None


class Options(StrictOptions):
    """The options of a job."""

    verify: bool = True
    product_type: str | None = None
    product_context: ProductContext | None = None
    quality: str = DEFAULT_QUALITY
    model: str | None = None
    deadline_seconds: Annotated[float, Field(gt=0, le=_LONGEST_DEADLINE)] | None = None

    @field_validator("product_type")
    @classmethod
    def _is_known(cls, product_type: str | None) -> str | None:
        if product_type is not None and product_type not in PRODUCT_TYPES:
            raise ValueError(f"it is not one of {', '.join(PRODUCT_TYPES)}")
        return product_type


def read_story_options(options: JsonObject, today: Callable[[], date] | None) -> Options:
    """Check a job's options; raises `InvalidInput` naming each bad field."""
    read = read_options(Options, options)
    try:
        choose_models(read.quality, read.model, on=today() if today else None)
    except InvalidInput as refusal:
        raise refusal.within("options") from None
    return read


def choose_iterations(
    mode: str, iterations: Sequence[str] | None, product_type: str | None
) -> tuple[str, ...]:
    """Return which iterations will run, in their order; raises `InvalidInput`."""
    if mode == INDIVIDUAL:
        return in_registry_order(DEFAULT_ITERATIONS if iterations is None else tuple(iterations))
    if mode != WORKFLOW:
        raise _invalid("mode", f"{mode[:_ECHO]!r} is neither {INDIVIDUAL} nor {WORKFLOW}")
    if iterations is not None:
        raise _invalid("iterations", "in workflow mode the product type decides on the iterations")
    if product_type is None:
        raise _invalid("options.productType", "workflow mode needs a product type")
    return (*(iteration.id for iteration in applicable(product_type)), CONSOLIDATION.id)


def check_story(story: str) -> None:
    """Refuse a story without any text that can be seen."""
    if not is_visible(story):
        raise _invalid("story", "the story has no text")


def _invalid(field: str, message: str) -> InvalidInput:
    return InvalidInput(message, errors=[FieldError(field, message)])
