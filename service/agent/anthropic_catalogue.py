"""What Anthropic's catalogue says of a model."""

from datetime import date, datetime
from typing import Any

from service.agent.anthropic_failures import transient
from service.domain.lifecycle import ModelLifecycle, Stage


def read_lifecycle(entry: Any) -> ModelLifecycle:
    """Read an entry of the catalogue, which the SDK does not check; raises `ModelFailure`."""
    try:
        stage = Stage(entry.lifecycle)
    except (AttributeError, ValueError):
        raise transient("the model's address answers with something else than models") from None
    return ModelLifecycle(stage, _day(getattr(entry, "retires_at", None)))


def _day(time: object) -> date | None:
    return time.date() if isinstance(time, datetime) else None
