"""Plans follow from their seed alone."""

from collections import Counter
from itertools import pairwise

from tests.chaos.faults.catalogue import KINDS, ROOMS
from tests.chaos.plan import Fate, make_plan

JOBS = 1000


def test_the_same_seed_gives_the_same_plan() -> None:
    first = make_plan(7, JOBS, len(KINDS), ROOMS)
    assert list(first.as_json_lines()) == list(
        make_plan(7, JOBS, len(KINDS), ROOMS).as_json_lines()
    )
    assert first.jobs != make_plan(8, JOBS, len(KINDS), ROOMS).jobs
    assert first.faults != make_plan(8, JOBS, len(KINDS), ROOMS).faults


def test_every_kind_of_fault_comes_and_has_its_time_to_itself() -> None:
    plan = make_plan(1, JOBS, len(KINDS) + 15, ROOMS)
    assert set(Counter(fault.kind for fault in plan.faults)) == set(KINDS)
    for fault, following in pairwise(plan.faults):
        assert following.at - fault.at >= ROOMS[fault.kind] - 0.001


def test_jobs_arrive_over_the_whole_plan_and_last_up_to_twenty_seconds() -> None:
    plan = make_plan(1, JOBS, len(KINDS), ROOMS)
    arrivals = [job.at for job in plan.jobs]
    assert arrivals == sorted(arrivals)
    assert arrivals[0] < 0.05 * plan.seconds
    assert arrivals[-1] > 0.9 * plan.seconds
    seconds = [job.seconds for job in plan.jobs]
    assert min(seconds) < 0.6
    assert max(seconds) > 15
    assert all(0.5 <= each <= 20 for each in seconds)


def test_all_sorts_of_jobs_are_planned() -> None:
    jobs = make_plan(1, JOBS, len(KINDS), ROOMS).jobs
    assert {job.agent for job in jobs} == {"user-story", "sleep", "noop"}
    assert {job.fate for job in jobs} == set(Fate)
    assert any(job.cancel_after is not None for job in jobs)
    assert any(job.is_redriven for job in jobs)
    assert any(job.ending is Fate.REFUSED for job in jobs)
    assert {len(job.habits) for job in jobs} == {0, 1, 2}
