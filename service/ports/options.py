"""What an agent's jobs may ask for, declared as a pydantic model."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from service.domain.errors import FieldError, InvalidInput, json_path
from service.domain.job import JsonObject

Declared = TypeVar("Declared", bound=BaseModel)


class StrictOptions(BaseModel):
    """Options with camelCase names, of which none is converted and no unknown one is taken."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        allow_inf_nan=False,
    )

    def as_json(self) -> JsonObject:
        """The stored form: defaults filled in, what was not given left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def read_options(kind: type[Declared], options: JsonObject) -> Declared:
    """Check a job's options; raises `InvalidInput` naming each bad field."""
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        errors = [FieldError(json_path(("options", *each["loc"])), each["msg"]) for each in found]
        raise InvalidInput("some options are not valid", errors=errors) from None


def refuse_iterations(iterations: Sequence[str] | None) -> None:
    """Refuse a choice of iterations, for an agent that decides on them itself."""
    if iterations:
        message = "this agent takes no iterations"
        raise InvalidInput(message, errors=[FieldError("iterations", message)])
