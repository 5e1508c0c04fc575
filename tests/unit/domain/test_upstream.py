"""Rates, costs, forecasts and the bucket of a worker on its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.upstream import BURST, Cost, Forecast, Rates, TokenBucket
from service.domain.usage import Usage, cost_of


def test_the_stricter_limit_of_each_kind_holds() -> None:
    configured, told = Rates(requests=50, input=9), Rates(requests=60, input=8, output=7)
    assert configured.lower_of(told) == Rates(requests=50, input=8, output=7)


def test_what_has_no_limit_has_none_when_shared() -> None:
    assert Rates(requests=50).share(4) == Rates(requests=12.5)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(), Cost()),
        (Usage(7, 3, cache_read=900, cache_write=20), Cost(requests=1, input=27, output=3)),
        (Usage(cache_read=900), Cost(requests=1)),
    ],
)  # fmt: skip
def test_what_the_cache_gave_costs_nothing_of_the_limits(usage: Usage, cost: Cost) -> None:
    assert cost_of(usage) == cost


def test_a_forecast_begins_with_the_whole_estimate_and_comes_to_expect_what_is_used() -> None:
    forecast = Forecast()
    assert forecast.expect(3000, 16_000).input == 3000
    for _ in range(40):
        forecast.learn(3000, Cost(requests=1, input=900, output=400))
    expected = forecast.expect(3000, 16_000)
    assert 900 <= expected.input < 1000
    assert 400 <= expected.output < 500


def test_a_forecast_leaves_room_for_answers_that_vary() -> None:
    steady, varied = Forecast(), Forecast()
    for number in range(60):
        steady.learn(1000, Cost(requests=1, input=500, output=500))
        varied.learn(1000, Cost(requests=1, input=500, output=1000 * (number % 2)))
    assert varied.expect(1000, 16_000).output > steady.expect(1000, 16_000).output


def test_no_forecast_is_above_what_the_call_may_use() -> None:
    assert Forecast().expect(0, 100) == Cost(requests=1, input=1, output=100)


def test_a_call_larger_than_the_bucket_passes_when_it_is_full_and_the_next_ones_pay() -> None:
    bucket = TokenBucket(Rates(input=600), now=0.0)
    assert bucket.take(Cost(input=1000), 0.0) == 0
    # 900 are owed and 1 is wanted, at ten a second.
    assert bucket.take(Cost(input=1), 0.0) == pytest.approx(90.1)
    assert bucket.take(Cost(input=1), 90.2) == 0


def test_what_was_given_back_may_be_taken_again_at_once() -> None:
    bucket = TokenBucket(Rates(input=600), now=0.0)
    assert bucket.take(Cost(input=100), 0.0) == 0
    bucket.give_back(Cost(input=60))
    assert bucket.take(Cost(input=60), 0.0) == 0
    assert bucket.take(Cost(input=60), 0.0) == pytest.approx(6.0)


def test_without_limits_everything_passes() -> None:
    bucket = TokenBucket(Rates(), now=0.0)
    assert bucket.take(Cost(requests=1, input=10**9, output=10**9), 0.0) == 0


@given(
    limit=st.integers(1, 10_000),
    wants=st.lists(st.tuples(st.integers(1, 500), st.floats(0, 5)), max_size=60),
)
def test_whoever_takes_never_takes_more_than_a_burst_and_what_flowed_in(
    limit: int, wants: list[tuple[int, float]]
) -> None:
    bucket, now, taken, largest = TokenBucket(Rates(input=limit), now=0.0), 0.0, 0, 0
    for amount, pause in wants:
        now += pause
        if bucket.take(Cost(input=amount), now) == 0:
            taken, largest = taken + amount, max(largest, amount)
        assert taken <= limit * BURST + limit * now / 60 + largest + 1e-6
