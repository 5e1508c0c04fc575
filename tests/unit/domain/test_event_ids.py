"""Event ids, event data and the event that ends a job."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.events import (
    BEGINNING,
    EventId,
    EventType,
    coalesce_progress,
    event_data,
    final_event,
    redriven_event,
)
from service.domain.job import JobStatus
from tests.unit.domain.jobs import EVENT_IDS, JOB, a_job

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(event_id=EVENT_IDS)
def test_an_id_reads_back_as_it_was_written(event_id: EventId) -> None:
    assert EventId.parse(str(event_id)) == event_id


@given(one=EVENT_IDS, other=EVENT_IDS)
def test_ids_compare_as_pairs_of_numbers(one: EventId, other: EventId) -> None:
    assert (one < other) == ((one.attempt, one.seq) < (other.attempt, other.seq))
    assert one >= BEGINNING


def test_ids_do_not_compare_as_text() -> None:
    assert EventId(2, 1) < EventId(10, 1)
    assert EventId(1, 9) < EventId(1, 10)


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "1-", "-1", "1-1-1", "1-1\n", " 1-1", "1-1 ", "+1-1", "1--1", "1-x", "$", "0x1-1",
        "1.0-1", "1_0-1", "٣-١", "1-²", "99999999999-1", "1-9999999999999",
    ],
)  # fmt: skip
def test_what_is_no_id_is_none(text: str) -> None:
    assert EventId.parse(text) is None


@given(text=st.text())
def test_any_text_is_an_id_or_none_and_never_an_error(text: str) -> None:
    parsed = EventId.parse(text)
    assert parsed is None or EventId.parse(str(parsed)) == parsed


def test_only_three_events_end_a_job() -> None:
    terminal = {each for each in EventType if each.is_terminal}
    assert terminal == {EventType.COMPLETE, EventType.ERROR, EventType.CANCELLED}


@given(
    details=st.dictionaries(
        st.sampled_from(["type", "jobId", "attempt", "iteration"]) | st.text(), JSON_VALUES
    )
)
def test_no_detail_can_pass_itself_off_as_another_event(details: dict[str, Any]) -> None:
    data = event_data(EventType.START, JOB.id, 3, details)
    assert list(data)[:3] == ["type", "jobId", "attempt"]
    assert (data["type"], data["jobId"], data["attempt"]) == ("start", str(JOB.id), 3)
    assert data.keys() == {"type", "jobId", "attempt", *details}


def test_progress_of_one_iteration_and_phase_is_merged_in_order() -> None:
    earlier = {"iteration": "a", "phase": "draft", "patches": [1], "outputTokens": 5}
    later = {"iteration": "a", "phase": "draft", "patches": [2, 3], "outputTokens": 9}
    assert coalesce_progress(earlier, later) == {
        "iteration": "a", "phase": "draft", "patches": [1, 2, 3], "outputTokens": 9,
    }  # fmt: skip


@pytest.mark.parametrize("change", [{"iteration": "b"}, {"phase": "redo"}])
def test_progress_of_different_phases_is_kept_apart(change: dict[str, str]) -> None:
    earlier = {"iteration": "a", "phase": "draft", "patches": [1]}
    assert coalesce_progress(earlier, {**earlier, **change}) is None


def test_a_completed_job_ends_with_its_result_and_its_cost() -> None:
    result = {"markdown": "# Log in", "tokenUsage": {"input": 1}, "costUsd": 0.5}
    event = final_event(a_job(status=JobStatus.COMPLETED, result=result, final_event_id="2-7"))
    assert event is not None
    assert (event.id, event.type) == (EventId(2, 7), EventType.COMPLETE)
    assert event.data == {
        "type": "complete", "jobId": str(JOB.id), "attempt": 2,
        "result": result, "tokenUsage": {"input": 1}, "costUsd": 0.5,
    }  # fmt: skip


def test_a_failed_job_ends_with_its_error() -> None:
    error = {"code": "WORKER_LOST", "message": "gone", "retryable": True}
    event = final_event(a_job(status=JobStatus.FAILED, error=error, final_event_id="4-1"))
    assert event is not None
    assert event.type is EventType.ERROR
    assert event.data == {"type": "error", "jobId": str(JOB.id), "attempt": 4, **error}


def test_a_cancelled_job_ends_without_details() -> None:
    event = final_event(a_job(status=JobStatus.CANCELLED, final_event_id="2-1"))
    assert event is not None
    assert event.data == {"type": "cancelled", "jobId": str(JOB.id), "attempt": 2}


def test_a_redriven_job_begins_with_an_event_that_says_so() -> None:
    event = redriven_event(a_job(status=JobStatus.QUEUED, attempt=4))
    assert (event.id, event.type) == (EventId(4, 1), EventType.RETRYING)
    assert event.data == {
        "type": "retrying", "jobId": str(JOB.id), "attempt": 4,
        "reason": "redrive", "code": "REDRIVEN", "availableAt": "2026-11-24T12:00:00.000Z",
    }  # fmt: skip


def test_a_purged_job_still_ends() -> None:
    event = final_event(a_job(status=JobStatus.COMPLETED, result=None, final_event_id="1-9"))
    assert event is not None
    assert event.data["result"] == {}
    assert event.data["costUsd"] is None


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.PROCESSING])
def test_a_job_that_has_not_ended_has_no_final_event(status: JobStatus) -> None:
    assert final_event(a_job(status=status, final_event_id="1-9")) is None


@pytest.mark.parametrize("event_id", [None, "", "garbage"])
def test_without_its_id_there_is_no_final_event(event_id: str | None) -> None:
    assert final_event(a_job(status=JobStatus.FAILED, final_event_id=event_id)) is None
