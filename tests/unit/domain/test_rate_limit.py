"""What a policy promises: a burst of its quota, the same again per window, and true forecasts."""

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from service.domain.rate_limit import RatePolicy, RateVerdict, take, verdict

FIVE = RatePolicy(name="submit", quota=5)
SECOND = 1_000_000

policies = st.builds(
    RatePolicy, name=st.just("x"), quota=st.integers(1, 700), window=st.sampled_from([1, 60])
)
backlogs = st.integers(-SECOND, 60 * SECOND)


def ask(policy: RatePolicy, backlog: int) -> tuple[RateVerdict, int]:
    """The verdict on a request, and the backlog it leaves."""
    allowed, after = take(policy, backlog)
    return verdict(policy, allowed, after), after


def test_five_requests_in_a_row_pass_and_the_sixth_is_told_when_to_come_back() -> None:
    seen, backlog = [], 0
    for _ in range(6):
        told, backlog = ask(FIVE, backlog)
        seen.append((told.allowed, told.remaining, told.reset))
    assert seen == [
        (True, 4, 12.0), (True, 3, 12.0), (True, 2, 12.0), (True, 1, 12.0), (True, 0, 12.0),
        (False, 0, 12.0),
    ]  # fmt: skip


@given(policy=policies, backlog=backlogs)
def test_as_many_follow_at_once_as_remain(policy: RatePolicy, backlog: int) -> None:
    told, backlog = ask(policy, backlog)
    for left in range(told.remaining - 1, -1, -1):
        told, backlog = ask(policy, backlog)
        assert (told.allowed, told.remaining) == (True, left)
    told, _ = ask(policy, backlog)
    assert (told.allowed, told.remaining) == (False, 0)


@given(policy=policies, backlog=backlogs)
def test_there_is_room_for_one_more_after_the_reset_and_not_before(
    policy: RatePolicy, backlog: int
) -> None:
    told, after = ask(policy, backlog)
    reset_us = round(told.reset * SECOND)
    assert 0 < reset_us <= policy.interval_us

    def room(waited: int) -> int:
        return verdict(policy, True, max(0, after - waited)).remaining

    assert room(reset_us) == told.remaining + 1
    assert room(reset_us - 1) == told.remaining


@given(policy=policies, seed=st.integers(0, 2**32), windows=st.integers(1, 4))
def test_in_the_long_run_no_more_pass_than_the_quota(
    policy: RatePolicy, seed: int, windows: int
) -> None:
    # Someone who asks without a pause, at odd moments.
    passed, backlog, now = 0, 0, 0
    step = max(1, policy.interval_us // 3 - seed % 7)
    while now < windows * policy.window * SECOND:
        allowed, backlog = take(policy, backlog)
        passed += allowed
        now, backlog = now + step, max(0, backlog - step)
    bound = policy.quota + ceil(windows * policy.window * SECOND / policy.interval_us)
    assert policy.quota * windows <= passed <= bound


def test_a_backlog_that_cannot_be_is_forgotten() -> None:
    told, after = ask(FIVE, 3_600 * SECOND)
    assert (told.allowed, told.reset, after) == (False, 12.0, FIVE.burst_us)


def test_a_quota_of_nothing_lets_nothing_pass() -> None:
    told, after = ask(RatePolicy(name="submit", quota=0), 0)
    assert (told.allowed, told.remaining, told.reset, after) == (False, 0, 60.0, 0)
