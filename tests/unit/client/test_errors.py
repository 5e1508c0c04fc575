"""How errors of the service are read."""

import pytest

from service.client.errors import read_problem, read_retry_after
from service.domain.errors import FieldError


def test_a_problem_is_read_whole() -> None:
    body = b'{"code": "X", "detail": "why", "errors": [{"field": "story", "message": "empty"}]}'
    problem = read_problem(400, {"Retry-After": "3"}, body)
    assert problem is not None
    assert (problem.status, problem.code, problem.detail) == (400, "X", "why")
    assert problem.errors == (FieldError("story", "empty"),)
    assert problem.retry_after == 3.0
    assert str(problem) == "X: why"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"code": 1}', b"\xff"])
def test_what_is_no_problem_is_not_made_one(body: bytes) -> None:
    assert read_problem(502, {}, body) is None


@pytest.mark.parametrize("errors", [b"null", b'"x"', b"{}"])
def test_odd_errors_are_left_out(errors: bytes) -> None:
    problem = read_problem(400, {}, b'{"code": "X", "title": "Bad", "errors": ' + errors + b"}")
    assert problem is not None
    assert (problem.detail, problem.errors) == ("Bad", ())


def test_a_bare_error_is_kept_as_text() -> None:
    problem = read_problem(400, {}, b'{"code": "X", "errors": ["odd", {}]}')
    assert problem is not None
    assert problem.errors == (FieldError("", "odd"), FieldError("", ""))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("5", 5.0), (" 0 ", 0.0), ("-1", None), ("", None), ("٣", None), ("1.5", None)],
)
def test_retry_after_is_whole_seconds_or_nothing(header: str, seconds: float | None) -> None:
    assert read_retry_after({"Retry-After": header}) == seconds
