"""Errors, named by what the caller can do about them."""

import pytest

from service.domain.errors import (
    FailureKind,
    FieldError,
    IdempotencyConflict,
    InvalidInput,
    JobFailure,
    JobFinished,
    LeaseLost,
    ModelFailure,
    NotFound,
    ServiceError,
    Unavailable,
    json_path,
)


def test_everything_raised_on_purpose_is_one_family() -> None:
    for error in (
        InvalidInput("no"),
        NotFound(),
        JobFinished("completed"),
        IdempotencyConflict(),
        Unavailable("Redis"),
        LeaseLost(),
        ModelFailure("MODEL_REFUSED", "no"),
    ):
        assert isinstance(error, ServiceError)


def test_bad_input_is_a_400_that_names_its_fields() -> None:
    error = InvalidInput("no", errors=[FieldError("story", "is missing")])
    assert (error.code, error.status) == ("VALIDATION_ERROR", 400)
    assert error.errors == (FieldError("story", "is missing"),)
    assert error.limits == {}


def test_an_outage_says_what_is_away_and_when_to_come_back() -> None:
    error = Unavailable("Postgres")
    assert str(error) == "Postgres is unavailable"
    assert error.retry_after > 0


def test_a_finished_job_says_how_it_ended() -> None:
    assert str(JobFinished("cancelled")) == "the job is already cancelled"


def test_a_failed_model_call_is_a_failed_job_and_for_good_unless_told_otherwise() -> None:
    failure = ModelFailure("MODEL_OUTPUT_INVALID", "not JSON")
    assert isinstance(failure, JobFailure)
    assert failure.kind is FailureKind.PERMANENT
    assert failure.retry_after is None
    with pytest.raises(JobFailure, match="not JSON"):
        raise failure


def test_a_place_is_written_as_callers_would_write_it() -> None:
    assert json_path(("options", "names", 2, "x")) == "options.names[2].x"
    assert json_path(()) == ""
    assert len(json_path(("n" * 5000,))) == 80
