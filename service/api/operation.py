"""The words in which an operation is described."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel

from service.api.cursors import CURSOR_PATTERN
from service.api.parameters import DEFAULT_PAGE, LARGEST_PAGE

JsonSchema = dict[str, Any]

MARKDOWN: Final = "text/markdown"
EVENTS: Final = "text/event-stream"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing a caller says outside of the body."""

    name: str
    place: Literal["path", "query", "header"]
    description: str
    schema: JsonSchema
    is_required: bool = False
    example: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its representations by media type, None where it is not JSON."""

    description: str
    content: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation; `problems` are the statuses it has beyond those that all have."""

    tag: str
    summary: str
    description: str
    answers: Mapping[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    is_body_required: bool = True
    problems: tuple[int, ...] = ()


PAGING: Final = (
    Parameter(
        "limit",
        "query",
        "Jobs per page.",
        {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": DEFAULT_PAGE},
    ),
    Parameter(
        "cursor",
        "query",
        "`nextCursor` of the page before.",
        {"type": "string", "pattern": CURSOR_PATTERN},
    ),
)


def json_answer(description: str, model: type[BaseModel]) -> Answer:
    """Return an answer that is one JSON document."""
    return Answer(description, {JSON: model})


def choice(name: str, description: str, choices: tuple[str, ...]) -> Parameter:
    """Return an optional query parameter that takes one of some words."""
    return Parameter(name, "query", description, {"type": "string", "enum": [*choices]})
