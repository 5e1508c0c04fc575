"""Checkpoints, claims and tokens."""

from decimal import Decimal
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.attempt import Checkpoint, Claim, Delivery, Fence, Verdict
from service.domain.usage import Usage, UsageMeter
from tests.unit.domain.jobs import JOB

TOKENS = st.integers(min_value=0, max_value=10**9)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, st.booleans())
CHECKPOINTS = st.builds(
    Checkpoint,
    step=st.text(),
    text=st.text(),
    stop_reason=st.text(),
    model=st.text(),
    usage=st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS),
    cost_usd=st.none() | st.decimals(min_value=0, max_value=10**6, places=10),
    duration_ms=TOKENS,
)


@given(checkpoint=CHECKPOINTS)
def test_a_checkpoint_survives_being_stored_to_the_last_digit(checkpoint: Checkpoint) -> None:
    stored = orjson.loads(orjson.dumps(checkpoint.as_json()))
    assert Checkpoint.from_json(checkpoint.step, stored) == checkpoint


def test_an_unknown_cost_stays_unknown() -> None:
    checkpoint = Checkpoint(
        step="validation/draft", text="", stop_reason="end_turn", model="m", usage=Usage(),
        cost_usd=None, duration_ms=1,
    )  # fmt: skip
    assert checkpoint.as_json()["costUsd"] is None
    assert Checkpoint.from_json("s", checkpoint.as_json()).cost_usd is None
    assert Checkpoint.from_json("s", {**checkpoint.as_json(), "costUsd": "0"}).cost_usd == Decimal()


@given(one=USAGES, other=USAGES, third=USAGES)
def test_tokens_add_up_in_any_order(one: Usage, other: Usage, third: Usage) -> None:
    assert one + other == other + one
    assert (one + other) + third == one + (other + third)
    assert (one + other).total == one.total + other.total
    assert one + Usage() == one


@given(one=USAGES, other=USAGES)
def test_a_sum_is_an_estimate_as_soon_as_one_part_is(one: Usage, other: Usage) -> None:
    assert (one + other).estimated is (one.estimated or other.estimated)


def test_tokens_are_shown_with_the_names_of_the_api() -> None:
    shown = Usage(1, 2, 3, 4).as_json()
    assert shown == {"input": 1, "output": 2, "cacheRead": 3, "cacheWrite": 4}
    assert Usage.from_json(shown) == Usage(1, 2, 3, 4)


def test_a_meter_counts_as_estimated_until_the_call_has_finished() -> None:
    assert UsageMeter().usage == Usage(estimated=True)


def test_a_claim_is_fenced_by_the_job_as_it_is_after_it() -> None:
    delivery = Delivery("stream", "1-1", JOB.id)
    assert Claim(delivery, Verdict.CLAIMED, JOB).fence == Fence(JOB.id, JOB.attempt)


def test_a_claim_without_a_job_has_no_fence() -> None:
    claim = Claim(Delivery("stream", "1-1", JOB.id), Verdict.MISSING)
    with pytest.raises(ValueError, match="no fence"):
        _ = claim.fence


def test_fences_sort_by_job_and_then_by_attempt() -> None:
    fences = [Fence(UUID(int=2), 1), Fence(UUID(int=1), 10), Fence(UUID(int=1), 9)]
    assert sorted(fences) == [fences[2], fences[1], fences[0]]
