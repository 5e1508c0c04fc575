"""Every error is a problem document that says what the caller can do, and nothing of ours."""

from typing import Any

import orjson
import pytest
from aiohttp import web

from service.api.documents import ProblemDocument
from service.api.problems import INTERNAL_ERROR, Problem, forbidden, problem_of, unauthorized
from service.domain.errors import (
    FieldError,
    IdempotencyConflict,
    InvalidInput,
    JobFinished,
    JobNotFailed,
    LeaseLost,
    NotFound,
    Unavailable,
)
from service.domain.tiers import FREE


def body_of(response: web.Response) -> dict[str, Any]:
    """The document of a response."""
    assert isinstance(response.body, bytes)
    document: dict[str, Any] = orjson.loads(response.body)
    return document


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidInput("no"), 400, "VALIDATION_ERROR"),
        (InvalidInput("no", code="UNKNOWN_ITERATION"), 400, "UNKNOWN_ITERATION"),
        (FREE.story_refusal("the story has 1 byte too many"), 413, "STORY_TOO_LARGE"),
        (NotFound("job 7"), 404, "NOT_FOUND"),
        (JobFinished("completed"), 409, "JOB_FINISHED"),
        (JobNotFailed("queued"), 409, "JOB_NOT_FAILED"),
        (IdempotencyConflict("used"), 422, "IDEMPOTENCY_CONFLICT"),
        (Unavailable("Postgres"), 503, "UNAVAILABLE"),
        (unauthorized("who?"), 401, "UNAUTHORIZED"),
        (forbidden("jobs:write"), 403, "FORBIDDEN"),
        (web.HTTPNotFound(), 404, "NOT_FOUND"),
        (web.HTTPBadRequest(), 400, "VALIDATION_ERROR"),
        (web.HTTPMethodNotAllowed("PUT", ["GET"]), 405, "METHOD_NOT_ALLOWED"),
        (web.HTTPUnsupportedMediaType(), 415, "UNSUPPORTED_MEDIA_TYPE"),
        (LeaseLost("not an error of callers"), 500, "INTERNAL_ERROR"),
        (web.HTTPBadGateway(), 500, "INTERNAL_ERROR"),
        (RuntimeError("secret"), 500, "INTERNAL_ERROR"),
    ],
)
def test_an_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    response = problem_of(error).respond("/api/v1/jobs")
    document = body_of(response)
    assert (response.status, response.content_type) == (status, "application/problem+json")
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] == f"urn:user-story-service:problem:{code.lower().replace('_', '-')}"
    assert document["title"]
    assert document["detail"]
    assert document["instance"] == "/api/v1/jobs"
    assert ProblemDocument.model_validate(document).code == code


def test_who_asks_in_the_wrong_way_is_told_the_right_one() -> None:
    problem = problem_of(web.HTTPMethodNotAllowed("PUT", ["GET", "POST"]))
    assert problem.detail == "this method is not allowed here; use GET, POST"


def test_what_went_wrong_inside_stays_inside() -> None:
    for error in (RuntimeError("canary"), Unavailable("canary"), ValueError("canary")):
        body = problem_of(error).respond("/").body
        assert isinstance(body, bytes)
        assert b"canary" not in body


def test_bad_fields_and_limits_are_named() -> None:
    error = InvalidInput(
        "no",
        errors=[FieldError("iterations[0]", "unknown")],
        limits={"maxIterations": 3, "maxBytes": 10},
    )
    document = body_of(problem_of(error).respond("/"))
    assert document["errors"] == [{"field": "iterations[0]", "message": "unknown"}]
    assert (document["maxIterations"], document["maxBytes"]) == (3, 10)


def test_limits_that_play_no_part_are_left_out() -> None:
    document = body_of(problem_of(NotFound("x")).respond("/"))
    assert document.keys() == {"type", "title", "status", "detail", "instance", "code", "errors"}


@pytest.mark.parametrize(("seconds", "header"), [(2.0, "2"), (0.0, "1"), (0.2, "1"), (30.1, "31")])
def test_a_caller_is_told_when_to_try_again(seconds: float, header: str) -> None:
    response = problem_of(Unavailable("Postgres", retry_after=seconds)).respond("/")
    assert response.headers["Retry-After"] == header


def test_a_refused_method_names_those_that_are_not() -> None:
    response = problem_of(web.HTTPMethodNotAllowed("PUT", ["GET", "HEAD"])).respond("/")
    assert response.headers["Allow"] == "GET,HEAD"


def test_an_unknown_caller_is_challenged() -> None:
    assert unauthorized("who?").respond("/").headers["WWW-Authenticate"].startswith("Bearer ")


def test_a_problem_is_bounded() -> None:
    errors = [FieldError(f"f{number}", "no") for number in range(1000)]
    problem = Problem(status=400, code="VALIDATION_ERROR", detail="d" * 9999, errors=errors)
    document = body_of(problem.respond("/"))
    assert (len(document["errors"]), len(document["detail"])) == (50, 1000)


def test_a_path_that_is_no_text_can_be_shown() -> None:
    document = body_of(INTERNAL_ERROR.respond("/jobs/\udcff\xe4"))
    assert document["instance"] == r"/jobs/\udcff\xe4"
