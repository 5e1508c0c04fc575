"""What replies must look like: the two output schemas, and the reading of both."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from service.domain.attempt import Checkpoint
from service.domain.job import JsonObject
from service.domain.patches import Operation
from service.domain.story import PATHS, clean_text

PASSING_SCORE = 0.7
MAX_ISSUES = 10
_MAX_ISSUE_TEXT = 1000
_CUT_SHORT = frozenset({"max_tokens", "model_context_window_exceeded"})
_REFUSED = "refusal"


def _object(properties: Mapping[str, JsonObject], *optional: str) -> JsonObject:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _text(description: str) -> JsonObject:
    return {"type": "string", "description": description}


DRAFT_SCHEMA: Final = _object(
    {
        "patches": {
            "type": "array",
            "items": _object(
                {
                    "op": {"type": "string", "enum": [op.value for op in Operation]},
                    "path": {"type": "string", "enum": list(PATHS)},
                    "id": _text("Only for replace and remove in a list: the item's id."),
                    "ids": {
                        "type": "array",
                        "items": {"type": "string"},
                        "description": "Only for merge: the ids of the items to join.",
                    },
                    "text": _text("For add, replace and merge: at most 500 characters."),
                    "reason": _text("One sentence, at most 240 characters."),
                },
                "id",
                "ids",
                "text",
            ),
        }
    }
)

VERIFICATION_SCHEMA: Final = _object(
    {
        "score": {"type": "number", "description": "From 0 to 1."},
        "issues": {
            "type": "array",
            "items": _object(
                {
                    "severity": {"type": "string", "enum": ["error", "warning", "info"]},
                    "category": _text("A short name of the kind of issue."),
                    "description": _text("Which patch, and what is wrong with it."),
                    "suggestion": _text("What would be right."),
                },
                "suggestion",
            ),
        },
    }
)


class _Reply(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _Draft(_Reply):
    patches: list[Any]


class Issue(_Reply):
    """One finding of a review."""

    severity: Literal["error", "warning", "info"]
    category: str
    description: str
    suggestion: str | None = None

    def as_json(self) -> JsonObject:
        """`{severity, category, description, suggestion?}`, texts cleaned and cut."""
        texts = self.model_dump(exclude_none=True)
        return {key: clean_text(text)[:_MAX_ISSUE_TEXT] for key, text in texts.items()}


class Verification(_Reply):
    """A review as the model gave it; whether it passed is decided here."""

    score: float = Field(ge=0, le=1)
    issues: list[Issue]

    @property
    def passed(self) -> bool:
        """Whether the score suffices and no issue is an error."""
        return self.score >= PASSING_SCORE and all(i.severity != "error" for i in self.issues)

    def as_json(self) -> JsonObject:
        """`{passed, score, issues}`."""
        issues = [issue.as_json() for issue in self.issues[:MAX_ISSUES]]
        return {"passed": self.passed, "score": self.score, "issues": issues}


def is_refusal(reply: Checkpoint) -> bool:
    """Whether the model declined to answer."""
    return reply.stop_reason == _REFUSED


def read_draft(reply: Checkpoint) -> list[Any] | None:
    """Return the patches asked for, not yet checked, or None if the reply cannot be used."""
    if reply.stop_reason in _CUT_SHORT or is_refusal(reply):
        return None
    try:
        return _Draft.model_validate_json(reply.text).patches
    except ValidationError:
        return None


def read_verification(reply: Checkpoint) -> Verification | None:
    """Return the review, or None if the reply cannot be used."""
    if reply.stop_reason in _CUT_SHORT or is_refusal(reply):
        return None
    try:
        return Verification.model_validate_json(reply.text)
    except ValidationError:
        return None


def read_object(text: str) -> object:
    """Return one piece of a reply, or None if it is not JSON."""
    try:
        return from_json(text)
    except ValueError:
        return None
