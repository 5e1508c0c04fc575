"""Whoever is refused is told which limit it was, how much of it is taken and what to do."""

from dataclasses import replace

import pytest

from service.domain.acceptance import Standing, Verdict, refusal
from service.domain.tiers import FREE

STANDING = Standing(active=2, requests=50, tokens=99_000, day_left=3600.0)
OWN = replace(FREE, concurrent_jobs=2)


@pytest.mark.parametrize(
    ("verdict", "code", "retry_after", "told"),
    [
        (Verdict.QUEUE_FULL, "QUEUE_FULL", 10, ["queue", "try again soon"]),
        (Verdict.CONCURRENT_JOBS, "CONCURRENT_JOB_LIMIT", 5, ["2 of 2", "ends", "cancel"]),
        (Verdict.REQUESTS_PER_DAY, "DAILY_QUOTA_EXCEEDED", 3600, ["50 of 50", "midnight UTC"]),
        (
            Verdict.TOKENS_PER_DAY,
            "DAILY_QUOTA_EXCEEDED",
            3600,
            ["4000 tokens", "99000 of the 100000", "midnight UTC"],
        ),
    ],
)
def test_a_refusal_tells_the_limit_what_is_taken_and_what_to_do(
    verdict: Verdict, code: str, retry_after: int, told: list[str]
) -> None:
    refused = refusal(verdict, OWN, STANDING, 4000)
    assert refused is not None
    assert (refused.code, refused.retry_after) == (code, retry_after)
    assert [part for part in told if part not in str(refused)] == []
    # The limits may be the user's own.
    assert "tier" not in str(refused)


@pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, Verdict.BOUND, Verdict.IN_FLIGHT])
def test_what_is_no_refusal_is_none(verdict: Verdict) -> None:
    assert refusal(verdict, OWN, STANDING, 4000) is None


def test_a_job_that_no_day_has_room_for_is_told_so() -> None:
    refused = refusal(Verdict.TOKENS_PER_DAY, OWN, STANDING, 100_001)

    assert "more than the 100000 of a whole day" in str(refused)
