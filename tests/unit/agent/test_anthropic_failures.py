"""What to do about each kind of bad answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.agent.anthropic_failures import ErrorAnswer, failure_of, retry_after_seconds
from service.domain.errors import FailureKind

DATE = "Tue, 24 Nov 2026 10:00:00 GMT"
A_MINUTE_LATER = "Tue, 24 Nov 2026 10:01:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "99999999999"}, 3600.0),
        ({"retry-after": "1", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "1", "retry-after-ms": "soon"}, 1.0),
        ({"retry-after": A_MINUTE_LATER, "date": DATE}, 60.0),
        ({"retry-after": DATE, "date": A_MINUTE_LATER}, 0.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 3600.0),
        ({"retry-after": "Wed, 01 Jan 2020 00:00:00 -0000"}, 0.0),
    ],
)
def test_a_legible_wait_is_read_and_bounded(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_seconds(headers) == seconds


@pytest.mark.parametrize("garbage", ["", "soon", "nan", "inf", "-inf", "1e999", "12:00", "3 4"])
def test_an_illegible_wait_is_none(garbage: str) -> None:
    assert retry_after_seconds({"retry-after": garbage}) is None


def test_no_header_is_no_wait() -> None:
    assert retry_after_seconds({}) is None


@given(wait=st.text(), date=st.text())
def test_no_header_can_break_the_reader_or_make_it_wait_for_ever(wait: str, date: str) -> None:
    seconds = retry_after_seconds({"retry-after": wait, "date": date})
    assert seconds is None or 0 <= seconds <= 3600


@pytest.mark.parametrize(
    ("status", "error_type", "code", "kind"),
    [
        (408, None, "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
        (409, None, "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
        (429, "rate_limit_error", "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
        (500, "api_error", "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
        (503, None, "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
        (529, "overloaded_error", "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
        (200, "overloaded_error", "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
        (200, "error_of_tomorrow", "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
        (200, None, "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
        (200, ["odd"], "MODEL_UNAVAILABLE", FailureKind.TRANSIENT),
        (200, "invalid_request_error", "PROCESSING_ERROR", FailureKind.PERMANENT),
        (400, "invalid_request_error", "PROCESSING_ERROR", FailureKind.PERMANENT),
        (404, "not_found_error", "PROCESSING_ERROR", FailureKind.PERMANENT),
        (413, "request_too_large", "PROCESSING_ERROR", FailureKind.PERMANENT),
        (422, None, "PROCESSING_ERROR", FailureKind.PERMANENT),
        (401, "authentication_error", "MODEL_UNAVAILABLE", FailureKind.CONFIGURATION),
        (402, "billing_error", "MODEL_UNAVAILABLE", FailureKind.CONFIGURATION),
        (403, "permission_error", "MODEL_UNAVAILABLE", FailureKind.CONFIGURATION),
        (400, "billing_error", "MODEL_UNAVAILABLE", FailureKind.CONFIGURATION),
        (200, "authentication_error", "MODEL_UNAVAILABLE", FailureKind.CONFIGURATION),
    ],
)
def test_every_answer_has_its_class(
    status: int, error_type: object, code: str, kind: FailureKind
) -> None:
    failure = failure_of(ErrorAnswer(status=status, type=error_type), {})
    assert (failure.code, failure.kind) == (code, kind)


@pytest.mark.parametrize(
    "answer",
    [
        ErrorAnswer(status=429, type="rate_limit_error", code="enforced_spend_limit_reached"),
        ErrorAnswer(status=429, type="rate_limit_error", code="contract_spend_limit_reached"),
        ErrorAnswer(status=400, type="invalid_request_error", code="organization_on_hold"),
        ErrorAnswer(status=400, message="You have reached your specified API usage limits."),
        ErrorAnswer(status=400, message="Your credit balance is too low to access the API."),
    ],
    ids=str,
)
def test_a_limit_that_only_the_customer_can_lift_is_a_matter_of_configuration(
    answer: ErrorAnswer,
) -> None:
    failure = failure_of(answer, {"retry-after": "1"})
    assert (failure.kind, failure.retry_after) == (FailureKind.CONFIGURATION, None)
    assert str(answer.code or "status 400") in failure.message


@pytest.mark.parametrize("code", ["ramp_limit_exceeded", "code_of_tomorrow", ["odd"], {}, None])
def test_other_rate_limits_pass_by_themselves(code: object) -> None:
    failure = failure_of(ErrorAnswer(status=429, code=code, message=code), {"retry-after": "1"})
    assert (failure.kind, failure.retry_after) == (FailureKind.TRANSIENT, 1.0)


def test_only_plain_words_of_an_answer_are_repeated() -> None:
    headers = {"request-id": "req_1" + "x" * 500}
    markup, words = "<script>the story</script>", "The story was refused."
    answer = ErrorAnswer(status=500, type=markup, code=markup, message=words)
    failure = failure_of(answer, headers)
    assert "story" not in str(failure)
    assert "req_1" in str(failure)
    assert len(str(failure)) < 150
