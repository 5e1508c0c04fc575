"""Whether a model can be counted on follows from what its provider says, and from today."""

from datetime import date, timedelta

import pytest

from service.domain.checkup import Health
from service.domain.lifecycle import NOTICE_DAYS, ModelLifecycle, Stage, judge_lifecycle

TODAY = date(2026, 11, 24)
ACTIVE, DEPRECATED, RETIRED = Stage.ACTIVE, Stage.DEPRECATED, Stage.RETIRED


def in_days(days: int) -> date:
    return TODAY + timedelta(days=days)


@pytest.mark.parametrize("last_day", [None, in_days(NOTICE_DAYS + 1)])
def test_an_active_model_that_stays_is_fine(last_day: date | None) -> None:
    finding = judge_lifecycle("m", ModelLifecycle(ACTIVE, last_day), TODAY)
    assert (finding.check, finding.health, finding.advice) == ("model m", Health.OK, None)


@pytest.mark.parametrize(
    ("lifecycle", "said"),
    [
        (None, "unknown"),
        (ModelLifecycle(RETIRED), "is retired"),
        (ModelLifecycle(RETIRED, in_days(-5)), "is retired"),
        (ModelLifecycle(ACTIVE, in_days(NOTICE_DAYS)), f"in {NOTICE_DAYS} days"),
        (ModelLifecycle(ACTIVE, in_days(0)), "2026-11-24, in 0 days"),
        (ModelLifecycle(DEPRECATED, in_days(NOTICE_DAYS + 1)), f"in {NOTICE_DAYS + 1} days"),
        (ModelLifecycle(DEPRECATED), "is deprecated"),
    ],
)
def test_whoever_uses_a_model_that_will_not_stay_is_warned(
    lifecycle: ModelLifecycle | None, said: str
) -> None:
    finding = judge_lifecycle("m", lifecycle, TODAY)
    assert finding.health is Health.WARNING
    assert said in finding.message
    assert finding.advice


def test_a_date_that_has_passed_does_not_retire_a_model_that_still_answers() -> None:
    finding = judge_lifecycle("m", ModelLifecycle(DEPRECATED, in_days(-1)), TODAY)
    assert "is retired" not in finding.message
    assert "was to retire on 2026-11-23" in finding.message
