"""Which models a job uses."""

from datetime import date

import pytest

from service.domain.errors import InvalidInput
from service.domain.models import KNOWN_MODELS, ModelChoice, choose_models, configured_models

SMALL, MIDDLE, LARGE = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"


@pytest.mark.parametrize(
    ("quality", "choice"),
    [
        ("fast", ModelChoice(draft=SMALL, verify=SMALL)),
        ("balanced", ModelChoice(draft=MIDDLE, verify=SMALL)),
        ("premium", ModelChoice(draft=LARGE, verify=MIDDLE)),
    ],
)
def test_a_quality_names_who_drafts_and_who_verifies(quality: str, choice: ModelChoice) -> None:
    assert choose_models(quality, None) == choice


def test_balanced_is_the_default() -> None:
    assert choose_models() == choose_models("balanced", None)


def test_an_explicit_model_drafts_and_verifies_whatever_the_quality() -> None:
    assert choose_models("fast", LARGE) == ModelChoice(draft=LARGE, verify=LARGE)


@pytest.mark.parametrize("model", ["", "gpt-9", "claude-sonnet-5-5 ", "CLAUDE-SONNET-5-5"])
def test_an_unknown_model_is_refused_with_the_known_ones(model: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        choose_models("balanced", model)
    assert (caught.value.code, caught.value.status) == ("UNKNOWN_MODEL", 400)
    assert [error.field for error in caught.value.errors] == ["model"]
    assert MIDDLE in caught.value.errors[0].message


def test_a_refusal_echoes_only_the_beginning_of_what_was_sent() -> None:
    with pytest.raises(InvalidInput) as caught:
        choose_models("balanced", "x" * 100_000)
    assert len(str(caught.value)) < 400


def test_an_unknown_quality_is_a_validation_error() -> None:
    with pytest.raises(InvalidInput) as caught:
        choose_models("cheap", None)
    assert caught.value.code == "VALIDATION_ERROR"
    assert [error.field for error in caught.value.errors] == ["quality"]


def test_a_model_is_refused_from_the_day_it_retires() -> None:
    retiring = "claude-sonnet-4-5"
    assert choose_models(model=retiring, on=date(2026, 11, 29)).draft == retiring
    with pytest.raises(InvalidInput) as caught:
        choose_models(model=retiring, on=date(2026, 11, 30))
    assert caught.value.code == "UNKNOWN_MODEL"
    assert f"one of {SMALL}" in str(caught.value)
    assert f", {retiring}" not in str(caught.value)


def test_every_known_model_is_listed_under_its_own_id_with_sane_limits() -> None:
    for model_id, model in KNOWN_MODELS.items():
        assert model.id == model_id
        assert 512 <= model.min_cacheable < model.max_output


def test_the_configured_models_are_those_of_all_qualities() -> None:
    assert configured_models() == (SMALL, MIDDLE, LARGE)
