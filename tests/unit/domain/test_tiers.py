"""What each tier may submit."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InvalidInput
from service.domain.tiers import ENTERPRISE, FREE, PRO, TIERS, UNLIMITED, Tier, tier_named

ALL = pytest.mark.parametrize("tier", TIERS.values(), ids=TIERS)


@ALL
def test_a_story_may_be_exactly_as_large_as_its_tier_allows(tier: Tier) -> None:
    tier.check_story("s" * tier.story_bytes)
    with pytest.raises(InvalidInput, match=f"a story may have {tier.story_bytes}$") as refusal:
        tier.check_story("s" * (tier.story_bytes + 1))
    assert (refusal.value.code, refusal.value.status) == ("STORY_TOO_LARGE", 413)
    assert refusal.value.limits == {"maxBytes": tier.story_bytes}


def test_bytes_are_counted_and_not_characters() -> None:
    FREE.check_story("é" * (FREE.story_bytes // 2))
    with pytest.raises(InvalidInput):
        FREE.check_story("é" * (FREE.story_bytes // 2 + 1))


@given(story=st.text(st.characters(), max_size=50))
def test_half_a_character_is_measured_like_any_other(story: str) -> None:
    FREE.check_story(story + "\ud800")


@ALL
def test_iterations_are_limited_with_the_limit_named(tier: Tier) -> None:
    tier.check_iterations(tier.iterations_per_job)
    with pytest.raises(InvalidInput) as refusal:
        tier.check_iterations(tier.iterations_per_job + 1)
    assert (refusal.value.code, refusal.value.status) == ("TOO_MANY_ITERATIONS", 400)
    assert refusal.value.limits == {"maxIterations": tier.iterations_per_job}
    assert [each.field for each in refusal.value.errors] == ["iterations"]


@given(name=st.text())
def test_an_unheard_of_tier_is_the_strictest(name: str) -> None:
    assert tier_named(name) is TIERS.get(name, FREE)


def test_tiers_are_found_by_their_names() -> None:
    assert [tier_named(tier.name) for tier in (FREE, PRO, ENTERPRISE, UNLIMITED)] == list(
        TIERS.values()
    )


def test_a_higher_tier_never_allows_less() -> None:
    for lower, higher in ((FREE, PRO), (PRO, ENTERPRISE), (ENTERPRISE, UNLIMITED)):
        for limit in (
            "requests_per_day", "tokens_per_day", "requests_per_minute", "story_bytes",
            "iterations_per_job", "concurrent_jobs",
        ):  # fmt: skip
            ours, theirs = getattr(lower, limit), getattr(higher, limit)
            assert theirs is None or (ours is not None and ours <= theirs), limit


def test_the_published_limits_are_what_is_checked() -> None:
    table = {
        "free": (50, 100_000, 5, 10_240, 3, 1),
        "pro": (500, 1_000_000, 20, 30_720, 6, 3),
        "enterprise": (5_000, 10_000_000, 60, 51_200, 12, 10),
        "unlimited": (None, None, None, 51_200, 12, None),
    }
    assert table == {
        tier.name: (
            tier.requests_per_day, tier.tokens_per_day, tier.requests_per_minute,
            tier.story_bytes, tier.iterations_per_job, tier.concurrent_jobs,
        )
        for tier in TIERS.values()
    }  # fmt: skip


def test_an_override_replaces_one_limit_and_leaves_the_others() -> None:
    tier = FREE.with_overrides({"tokens_per_day": 7, "limit_of_a_later_version": 1})

    assert tier == replace(FREE, tokens_per_day=7)


def test_an_override_of_none_lifts_a_limit_as_far_as_any_tier_does() -> None:
    tier = FREE.with_overrides({"concurrent_jobs": None, "story_bytes": None})

    assert tier.concurrent_jobs is None
    assert tier.story_bytes == UNLIMITED.story_bytes
