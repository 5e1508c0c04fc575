"""What calls cost, to the last digit."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.models import KNOWN_MODELS, PRESETS
from service.domain.pricing import PRICES, cost_usd
from service.domain.usage import Usage

TODAY = date(2026, 11, 24)
COUNT = st.integers(min_value=0, max_value=1_000_000)


@pytest.mark.parametrize(
    ("model", "usage", "dollars"),
    [
        ("claude-sonnet-5-5", Usage(1_000_000, 0, 0, 0), "2"),
        ("claude-sonnet-5-5", Usage(0, 1_000_000, 0, 0), "10"),
        ("claude-sonnet-5-5", Usage(0, 0, 1_000_000, 0), "0.1"),
        ("claude-sonnet-5-5", Usage(0, 0, 0, 1_000_000), "2.5"),
        ("claude-opus-5-5", Usage(25, 42, 900, 100), "0.00162"),
        ("claude-haiku-5-5", Usage(1, 0, 0, 0), "0.0000001"),
        ("claude-haiku-5-5", Usage(0, 0, 1, 0), "0.00000001"),
        ("claude-fable-5-1", Usage(3, 7, 0, 0), "0.00038"),
    ],
)
def test_each_kind_of_token_has_its_price(model: str, usage: Usage, dollars: str) -> None:
    assert cost_usd(model, usage, TODAY) == Decimal(dollars)


def test_an_unknown_price_is_none_and_never_zero() -> None:
    assert cost_usd("claude-unheard-of", Usage(), TODAY) is None
    assert cost_usd("claude-haiku-5-5", Usage(1, 1), date(2026, 10, 6)) is None
    assert cost_usd("claude-haiku-5-5", Usage(), TODAY) == 0


def test_a_call_is_priced_by_the_table_of_its_day() -> None:
    usage = Usage(cache_read=1_000_000)
    assert cost_usd("claude-sonnet-5-5", usage, date(2026, 10, 6)) == Decimal("0.20")
    assert cost_usd("claude-sonnet-5-5", usage, date(2026, 10, 7)) == Decimal("0.10")


def test_cached_tokens_count_towards_the_long_prompt_tier_which_prices_the_whole_call() -> None:
    at_the_limit = Usage(input=50_000, output=1_000_000, cache_read=30_000, cache_write=20_000)
    over = Usage(input=50_001, output=1_000_000, cache_read=30_000, cache_write=20_000)
    assert cost_usd("claude-haiku-5-5", at_the_limit, TODAY) == Decimal("0.5078")
    assert cost_usd("claude-haiku-5-5", over, TODAY) == Decimal("2.5390005")


def test_a_dated_snapshot_costs_what_its_model_costs() -> None:
    usage = Usage(input=1000)
    plain = cost_usd("claude-sonnet-4-5", usage, TODAY)
    assert plain == Decimal("0.003")
    assert cost_usd("claude-sonnet-4-5-20250929", usage, TODAY) == plain


@given(parts=st.tuples(COUNT, COUNT, COUNT, COUNT))
def test_costs_are_exact_to_the_last_digit(parts: tuple[int, int, int, int]) -> None:
    usage = Usage(*parts)
    cost = cost_usd("claude-opus-5-5", usage, TODAY)
    tenths_of_microdollars = (
        usage.input * 40 + usage.output * 200 + usage.cache_read * 2 + usage.cache_write * 50
    )
    assert cost == Decimal(tenths_of_microdollars) / 10_000_000


def test_every_model_of_the_presets_is_known_and_has_a_price_today() -> None:
    for choice in PRESETS.values():
        for model in (choice.draft, choice.verify):
            assert not KNOWN_MODELS[model].is_retired(TODAY)
            assert cost_usd(model, Usage(1, 1), TODAY) is not None


def test_no_two_prices_of_a_model_start_on_the_same_day() -> None:
    starts = [(price.model, price.since) for price in PRICES]
    assert len(starts) == len(set(starts))
