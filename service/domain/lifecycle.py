"""How long a model will be there, and what to do about it."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from service.domain.checkup import Finding

NOTICE_DAYS = 90
_ADVICE = "install a version of the service with newer models, or submit with another options.model"


class Stage(StrEnum):
    """Where a model is in its life, as its provider says."""

    ACTIVE = "active"
    DEPRECATED = "deprecated"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class ModelLifecycle:
    """What a provider says of a model; only `stage` tells that it is retired, a date does not."""

    stage: Stage
    retires_on: date | None = None


def judge_lifecycle(model: str, stated: ModelLifecycle | None, today: date) -> Finding:
    """Say whether a model can be counted on; None stands for one that nobody knows."""
    check = f"model {model}"
    concern = _concern(stated, today)
    if concern is None:
        return Finding.ok(check, "is active")
    return Finding.warning(check, concern, _ADVICE)


def _concern(stated: ModelLifecycle | None, today: date) -> str | None:
    if stated is None:
        return "is unknown to the provider, or closed to this key"
    if stated.stage is Stage.RETIRED:
        return "is retired, and calls of it fail"
    if stated.retires_on is None:
        return "is deprecated" if stated.stage is Stage.DEPRECATED else None
    days = (stated.retires_on - today).days
    if days < 0:
        return f"was to retire on {stated.retires_on}, and may do so any day"
    if stated.stage is Stage.DEPRECATED or days <= NOTICE_DAYS:
        return f"retires on {stated.retires_on}, in {days} days"
    return None
