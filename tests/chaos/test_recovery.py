"""How long a job waited after a fault is read from its history alone."""

from math import inf
from uuid import UUID

import pytest

from tests.chaos.recovery import Step, waits_after

JOB = UUID(int=1)
SINCE = 100.0


def step(at: float, attempt: int, status: str) -> Step:
    return Step(at, attempt, status, 0)


STARTED = step(90.0, 3, "processing")


@pytest.mark.parametrize(
    ("later", "wait"),
    [
        ([step(107.0, 4, "processing")], 7.0),
        ([step(104.0, 3, "queued"), step(105.0, 4, "processing")], 5.0),
        ([step(103.0, 3, "completed")], 3.0),
        ([step(102.0, 4, "cancelled")], 2.0),
        # It ended between the look at it and the fault.
        ([step(99.9, 3, "completed")], 0.0),
        ([], inf),
        ([step(104.0, 3, "queued")], inf),
    ],
)
def test_a_job_waits_until_it_runs_again_or_has_ended(later: list[Step], wait: float) -> None:
    assert waits_after({JOB: [STARTED, *later]}, {JOB: 3}, SINCE) == [pytest.approx(wait)]


def test_what_was_before_the_attempt_that_was_hit_does_not_count() -> None:
    before = [step(10.0, 2, "failed"), step(20.0, 3, "queued")]
    held = {JOB: 3}
    assert waits_after({JOB: [*before, STARTED]}, held, SINCE) == [inf]
    assert waits_after({}, held, SINCE) == [inf]
