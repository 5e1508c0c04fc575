"""Delays between attempts."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.domain.retry import RetryPolicy

POLICY = RetryPolicy()
JITTER = st.floats(min_value=0, max_value=1, exclude_max=True)
ERRORS = st.integers(min_value=0, max_value=10**6)
ANYTHING = st.none() | st.floats()


@given(errors=ERRORS, jitter=JITTER, retry_after=ANYTHING)
def test_a_delay_stays_within_its_bounds_whatever_the_upstream_asks_for(
    errors: int, jitter: float, retry_after: float | None
) -> None:
    delay = POLICY.delay(errors, jitter, retry_after)
    assert math.isfinite(delay)
    assert 0 <= delay <= max(POLICY.cap, POLICY.max_retry_after)


@given(errors=ERRORS, jitter=JITTER, retry_after=st.floats(min_value=0, max_value=300))
def test_a_reasonable_retry_after_is_never_undercut(
    errors: int, jitter: float, retry_after: float
) -> None:
    assert POLICY.delay(errors, jitter, retry_after) >= retry_after


@given(errors=ERRORS, jitter=JITTER, garbage=st.sampled_from([math.nan, -math.inf, -1.0, -0.0]))
def test_a_retry_after_of_garbage_leaves_the_backoff_as_it_is(
    errors: int, jitter: float, garbage: float
) -> None:
    assert POLICY.delay(errors, jitter, garbage) == POLICY.delay(errors, jitter)


def test_an_endless_retry_after_is_cut_to_the_longest_allowed() -> None:
    assert POLICY.delay(1, 0.0, math.inf) == POLICY.max_retry_after
    assert POLICY.delay(1, 0.0, 1e9) == POLICY.max_retry_after


@given(jitter=JITTER)
def test_an_operator_has_minutes_and_not_all_jobs_come_back_at_once(jitter: float) -> None:
    assert POLICY.delay_for_operator(jitter) >= 300
    assert POLICY.delay_for_operator(0.99) > 1.9 * POLICY.delay_for_operator(0.0)


@given(jitter=JITTER, errors=st.integers(min_value=0, max_value=100))
def test_the_backoff_grows_with_the_errors_up_to_its_cap(jitter: float, errors: int) -> None:
    assert POLICY.delay(errors, jitter) <= POLICY.delay(errors + 1, jitter) <= POLICY.cap


@given(errors=ERRORS, lower=JITTER, higher=JITTER)
def test_jitter_spreads_over_the_whole_backoff(errors: int, lower: float, higher: float) -> None:
    assume(lower <= higher)
    assert POLICY.delay(errors, 0.0) == 0
    assert POLICY.delay(errors, lower) <= POLICY.delay(errors, higher)


@pytest.mark.parametrize(("errors", "longest"), [(1, 2.0), (2, 4.0), (5, 32.0), (6, 60.0)])
def test_the_backoff_doubles_from_its_base(errors: int, longest: float) -> None:
    assert POLICY.delay(errors, 0.5) == longest / 2
