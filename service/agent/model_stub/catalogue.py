"""The stub's list of models, in the form of the real API."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time

from multidict import MultiMapping

from service.agent.model_stub.rules import Rejection
from service.domain.job import JsonObject
from service.domain.lifecycle import ModelLifecycle, Stage
from service.domain.models import KNOWN_MODELS

_DEFAULT_PAGE = 20
_LARGEST_PAGE = 1000
_UNKNOWN_TIME = "1970-01-01T00:00:00Z"


def known_lifecycles() -> dict[str, ModelLifecycle]:
    """Return the known models; one that has a last day is deprecated."""
    return {
        model.id: ModelLifecycle(
            Stage.DEPRECATED if model.retires_on else Stage.ACTIVE, model.retires_on
        )
        for model in KNOWN_MODELS.values()
    }


class Catalogue:
    """Models and where they are in their lives; changes to `lifecycles` show at once."""

    def __init__(self, lifecycles: Mapping[str, ModelLifecycle] | None = None) -> None:
        self.lifecycles = dict(known_lifecycles() if lifecycles is None else lifecycles)

    def find(self, model: str) -> JsonObject | Rejection:
        """Return one model."""
        lifecycle = self.lifecycles.get(model)
        if lifecycle is None:
            return Rejection(404, "not_found_error", f"model: {model}")
        return _entry(model, lifecycle)

    def page(self, query: MultiMapping[str]) -> JsonObject | Rejection:
        """Return the models before or after a place in the list, retired ones only if wanted."""
        limit = query.get("limit", str(_DEFAULT_PAGE))
        if not limit.isdecimal() or not 1 <= int(limit) <= _LARGEST_PAGE:
            message = f"limit: Input should be between 1 and {_LARGEST_PAGE}"
            return Rejection(400, "invalid_request_error", message)
        wanted = query.getall("lifecycle[]", [Stage.ACTIVE, Stage.DEPRECATED])
        ids = [model for model, each in self.lifecycles.items() if each.stage in wanted]
        shown, has_more = _cut(ids, query.get("after_id"), query.get("before_id"), int(limit))
        return {
            "data": [_entry(model, self.lifecycles[model]) for model in shown],
            "has_more": has_more,
            "first_id": shown[0] if shown else None,
            "last_id": shown[-1] if shown else None,
        }


def _cut(
    ids: Sequence[str], after: str | None, before: str | None, limit: int
) -> tuple[Sequence[str], bool]:
    if before in ids:
        earlier = ids[: ids.index(before)]
        return earlier[-limit:], len(earlier) > limit
    rest = ids[ids.index(after) + 1 :] if after in ids else ids
    return rest[:limit], len(rest) > limit


def _entry(model: str, lifecycle: ModelLifecycle) -> JsonObject:
    known = KNOWN_MODELS.get(model)
    is_active = lifecycle.stage is Stage.ACTIVE
    last_day = lifecycle.retires_on
    midnight = datetime.combine(last_day, time(), UTC) if last_day else None
    return {
        "type": "model",
        "id": model,
        "display_name": model.replace("-", " ").title(),
        "created_at": _UNKNOWN_TIME,
        "lifecycle": lifecycle.stage.value,
        "deprecated_at": None if is_active else _UNKNOWN_TIME,
        "retires_at": midnight.isoformat() if midnight else None,
        "max_input_tokens": None,
        "max_tokens": known.max_output if known else None,
    }
