"""What happens next after each way an attempt can end."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.job import JobStatus
from service.domain.outcome import Failed, Outcome, OutOfQuota, Stopped, Succeeded, Superseded
from service.domain.retry import RetryPolicy
from service.domain.transitions import (
    TRANSITIONS,
    Abandon,
    Complete,
    Fail,
    HandBack,
    Postpone,
    Retry,
    Transition,
    Trigger,
    decide,
)
from tests.unit.domain.jobs import COUNTS, JOB, a_job

POLICY = RetryPolicy()
CODES = st.sampled_from(["PROCESSING_ERROR", "MODEL_REFUSED", "MODEL_UNAVAILABLE"]) | st.text()
FAILURES = st.builds(
    Failed,
    CODES,
    st.text(),
    retryable=st.booleans(),
    retry_after=st.none() | st.floats(),
    needs_operator=st.booleans(),
)
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Succeeded, st.dictionaries(st.text(), st.integers())),
    FAILURES,
    st.just(Stopped()),
    st.just(Superseded()),
    st.builds(OutOfQuota, st.floats(min_value=0, max_value=86_400)),
)
JOBS = st.builds(a_job, error_count=COUNTS, crash_count=COUNTS, handback_count=COUNTS)
POLICIES = st.builds(RetryPolicy, max_errors=st.integers(min_value=1, max_value=100))
JITTER = st.floats(min_value=0, max_value=1, exclude_max=True)

TRIGGERS = {
    Complete: Trigger.COMPLETED,
    Fail: Trigger.FAILED,
    Retry: Trigger.RETRIED,
    HandBack: Trigger.HANDED_BACK,
    Postpone: Trigger.POSTPONED,
}


def failed(code: str = "PROCESSING_ERROR", **changes: Any) -> Failed:
    return Failed(code, "it went wrong", **{"retryable": True, **changes})


@given(job=JOBS, outcome=OUTCOMES, policy=POLICIES, jitter=JITTER)
def test_every_outcome_leads_to_a_transition_that_a_running_job_may_take(
    job: Any, outcome: Outcome, policy: RetryPolicy, jitter: float
) -> None:
    transition: Transition = decide(job, outcome, policy, jitter=jitter)
    if not isinstance(transition, Abandon):
        assert (JobStatus.PROCESSING, TRIGGERS[type(transition)]) in TRANSITIONS


@given(job=JOBS, outcome=FAILURES, policy=POLICIES, jitter=JITTER)
def test_a_job_is_retried_only_within_its_budget_of_errors(
    job: Any, outcome: Failed, policy: RetryPolicy, jitter: float
) -> None:
    transition = decide(job, outcome, policy, jitter=jitter)
    is_within_budget = outcome.retryable and job.error_count + 1 < policy.max_errors
    assert isinstance(transition, Retry if is_within_budget else Fail)


@given(policy=POLICIES, jitter=JITTER)
def test_a_job_that_never_succeeds_ends_after_as_many_attempts_as_it_has_budget(
    policy: RetryPolicy, jitter: float
) -> None:
    retries = 0
    while isinstance(decide(a_job(error_count=retries), failed(), policy, jitter=jitter), Retry):
        retries += 1
    assert retries + 1 == policy.max_errors


@given(job=JOBS, policy=POLICIES, jitter=JITTER)
def test_a_shutdown_costs_nothing_and_a_lost_job_is_left_alone(
    job: Any, policy: RetryPolicy, jitter: float
) -> None:
    assert decide(job, Stopped(), policy, jitter=jitter) == HandBack()
    assert decide(job, Superseded(), policy, jitter=jitter) == Abandon()


def test_a_success_keeps_the_agents_result() -> None:
    assert decide(JOB, Succeeded({"a": 1}), POLICY, jitter=0) == Complete({"a": 1})


def test_a_permanent_failure_keeps_its_code_and_is_not_tried_again() -> None:
    refused = decide(JOB, failed("MODEL_REFUSED", retryable=False), POLICY, jitter=0)
    assert refused == Fail("MODEL_REFUSED", "it went wrong", retryable=False)


@pytest.mark.parametrize("code", ["DEADLINE_EXCEEDED", "PROCESSING_ERROR"])
def test_failures_that_say_nothing_about_the_story_may_be_redriven(code: str) -> None:
    ended = decide(JOB, failed(code, retryable=False), POLICY, jitter=0)
    assert isinstance(ended, Fail)
    assert ended.as_json() == {"code": code, "message": "it went wrong", "retryable": True}


def test_an_exhausted_budget_tells_how_often_and_the_last_error() -> None:
    ended = decide(a_job(error_count=4), failed("MODEL_UNAVAILABLE"), POLICY, jitter=0)
    assert isinstance(ended, Fail)
    assert (ended.code, ended.retryable) == ("ATTEMPTS_EXHAUSTED", True)
    assert ended.message == (
        "gave up after 5 attempts; the last error was MODEL_UNAVAILABLE: it went wrong"
    )


def test_a_retry_waits_as_the_policy_says_for_one_error_more() -> None:
    transition = decide(a_job(error_count=1), failed(retry_after=7.0), POLICY, jitter=0.5)
    assert transition == Retry(7.0, "PROCESSING_ERROR", "it went wrong")
    transition = decide(a_job(error_count=1), failed(), POLICY, jitter=0.5)
    assert transition == Retry(POLICY.delay(2, 0.5), "PROCESSING_ERROR", "it went wrong")
    transition = decide(a_job(error_count=1), failed(needs_operator=True), POLICY, jitter=0.5)
    assert transition == Retry(POLICY.delay_for_operator(0.5), "PROCESSING_ERROR", "it went wrong")


def test_nothing_leaves_a_terminal_status_but_a_redrive_of_a_failed_job() -> None:
    leaving = {key for key in TRANSITIONS if key[0].is_terminal}
    assert leaving == {(JobStatus.FAILED, Trigger.REDRIVEN)}
    assert TRANSITIONS[JobStatus.FAILED, Trigger.REDRIVEN] is JobStatus.QUEUED


def test_every_status_can_be_reached_and_every_unfinished_one_can_be_cancelled() -> None:
    assert {JobStatus.QUEUED, *TRANSITIONS.values()} == set(JobStatus)
    for status in JobStatus:
        target = TRANSITIONS.get((status, Trigger.CANCELLED))
        assert target is (None if status.is_terminal else JobStatus.CANCELLED)


def test_every_trigger_is_used_and_only_a_claim_starts_a_job() -> None:
    assert {trigger for _, trigger in TRANSITIONS} == set(Trigger)
    starting = {key for key, target in TRANSITIONS.items() if target is JobStatus.PROCESSING}
    assert {trigger for _, trigger in starting} == {Trigger.CLAIMED}
