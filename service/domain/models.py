"""Which models are known, what they can do, and which ones a job uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from service.domain.errors import FieldError, InvalidInput

DEFAULT_QUALITY = "balanced"
_LONGEST_ECHO = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """Limits of a model, in tokens; `retires_on` is its first day without service.

    `min_cacheable` is the shortest prefix that is cached; shorter ones are silently not.
    """

    id: str
    max_output: int
    min_cacheable: int
    retires_on: date | None = None

    def is_retired(self, on: date) -> bool:
        """Whether the model is out of service that day."""
        return self.retires_on is not None and on >= self.retires_on


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The models that draft and verify an iteration."""

    draft: str
    verify: str


_HAIKU = "claude-haiku-5-5"
_SONNET = "claude-sonnet-5-5"
_OPUS = "claude-opus-5-5"

KNOWN_MODELS: Mapping[str, KnownModel] = {
    model.id: model
    for model in (
        # Nothing is published about Haiku 5.5's cache, so the strictest of its family holds.
        KnownModel(id=_HAIKU, max_output=128_000, min_cacheable=4096),
        KnownModel(id=_SONNET, max_output=128_000, min_cacheable=1024),
        KnownModel(id=_OPUS, max_output=128_000, min_cacheable=1024),
        KnownModel(id="claude-fable-5-1", max_output=128_000, min_cacheable=1024),
        KnownModel(
            id="claude-sonnet-4-5",
            max_output=64_000,
            min_cacheable=1024,
            retires_on=date(2026, 11, 30),
        ),
    )
}

PRESETS: Mapping[str, ModelChoice] = {
    "fast": ModelChoice(draft=_HAIKU, verify=_HAIKU),
    "balanced": ModelChoice(draft=_SONNET, verify=_HAIKU),
    "premium": ModelChoice(draft=_OPUS, verify=_SONNET),
}


def configured_models() -> tuple[str, ...]:
    """Return every model that a quality uses."""
    used = (model for choice in PRESETS.values() for model in (choice.draft, choice.verify))
    return tuple(dict.fromkeys(used))


def lasting_models() -> tuple[str, ...]:
    """Return the models without a last day: a description that names them does not grow old."""
    return tuple(model.id for model in KNOWN_MODELS.values() if model.retires_on is None)


def choose_models(
    quality: str = DEFAULT_QUALITY, model: str | None = None, *, on: date | None = None
) -> ModelChoice:
    """Return the models of a quality, or the one model that was asked for, for everything.

    Raises `InvalidInput` for what is unknown or, if a day is given, retired by then.
    """
    if quality not in PRESETS:
        raise _refusal("quality", quality, "VALIDATION_ERROR", PRESETS)
    if model is None:
        return PRESETS[quality]
    known = KNOWN_MODELS.get(model)
    if known is None or (on is not None and known.is_retired(on)):
        usable = [m.id for m in KNOWN_MODELS.values() if on is None or not m.is_retired(on)]
        raise _refusal("model", model, "UNKNOWN_MODEL", usable)
    return ModelChoice(draft=model, verify=model)


def _refusal(
    field: str, value: str, code: str, choices: Mapping[str, object] | list[str]
) -> InvalidInput:
    message = f"{value[:_LONGEST_ECHO]!r} is not one of {', '.join(choices)}"
    return InvalidInput(message, code=code, errors=[FieldError(field, message)])
