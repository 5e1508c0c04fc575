"""What is said in paths, queries and headers is understood or refused by its name."""

from collections.abc import Callable
from uuid import UUID

import pytest
from aiohttp import web

from service.api import parameters
from service.domain.errors import InvalidInput, NotFound
from service.domain.job import JobStatus
from tests.unit.api.requests import a_request

_ID = "01a21082-c342-73fb-8c2f-b63b97c5d778"
_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def refused_field(read: Callable[[web.Request], object], request: web.Request) -> str:
    """The field that a reader refuses."""
    with pytest.raises(InvalidInput) as caught:
        read(request)
    [error] = caught.value.errors
    return error.field


@pytest.mark.parametrize("text", [_ID, _ID.upper()])
def test_an_id_is_a_uuid_as_we_write_it(text: str) -> None:
    assert parameters.read_job_id(a_request(path={"id": text})) == UUID(_ID)


@pytest.mark.parametrize(
    "text", ["x", "", _ID.replace("-", ""), f"{{{_ID}}}", f"urn:uuid:{_ID}", _ID + "\n", "0" * 4000]
)
def test_what_is_no_id_belongs_to_no_job(text: str) -> None:
    with pytest.raises(NotFound):
        parameters.read_job_id(a_request(path={"id": text}))


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        ("", 0),
        ("wait=0", 0),
        ("wait=2.5", 2.5),
        ("wait=11.413568417862171", 11.413568417862171),
        ("wait=2e1", 20),
        ("wait=60", 60),
    ],
)
def test_a_wait_is_a_number_of_seconds(query: str, seconds: float) -> None:
    assert parameters.read_wait(a_request(query)) == seconds


@pytest.mark.parametrize(
    "text", ["-1", "61", "60.1", "nan", "inf", "1e2", "1e", "", "x", "٣", "9" * 400]
)
def test_a_wait_out_of_its_range_is_refused(text: str) -> None:
    assert refused_field(parameters.read_wait, a_request(f"wait={text}")) == "wait"


@pytest.mark.parametrize(("query", "limit"), [("", 20), ("limit=1", 1), ("limit=100", 100)])
def test_a_page_has_a_limit(query: str, limit: int) -> None:
    assert parameters.read_limit(a_request(query)) == limit


@pytest.mark.parametrize("text", ["0", "101", "-1", "1.0", "", "x", "9" * 5000])
def test_a_limit_out_of_its_range_is_refused(text: str) -> None:
    assert refused_field(parameters.read_limit, a_request(f"limit={text}")) == "limit"


def test_jobs_can_be_filtered_by_any_status() -> None:
    assert parameters.read_status(a_request()) is None
    for status in JobStatus:
        assert parameters.read_status(a_request(f"status={status}")) is status
    assert refused_field(parameters.read_status, a_request("status=done")) == "status"


def test_a_cursor_of_somebody_else_is_refused() -> None:
    assert parameters.read_cursor(a_request()) is None
    assert refused_field(parameters.read_cursor, a_request("cursor=abc")) == "cursor"


@pytest.mark.parametrize("key", ["x", "8e03978e-40d5-43dd-bc93-6894a57f9324", "!~" * 127])
def test_an_idempotency_key_is_visible_ascii(key: str) -> None:
    headers = {"Idempotency-Key": key}
    assert parameters.read_idempotency_key(a_request(headers=headers)) == key


@pytest.mark.parametrize("key", ["", "a b", "ä", "a\tb", "x" * 256])
def test_any_other_idempotency_key_is_refused(key: str) -> None:
    request = a_request(headers={"Idempotency-Key": key})
    assert refused_field(parameters.read_idempotency_key, request) == "Idempotency-Key"


def test_without_an_idempotency_key_there_is_none() -> None:
    assert parameters.read_idempotency_key(a_request()) is None


def test_a_trace_is_carried_on() -> None:
    assert parameters.read_trace_parent(a_request(headers={"traceparent": _TRACE})) == _TRACE


@pytest.mark.parametrize(
    "trace",
    [
        "",
        "x",
        _TRACE.upper(),
        _TRACE + "-extra",
        "ff" + _TRACE[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_a_malformed_trace_counts_as_none(trace: str) -> None:
    assert parameters.read_trace_parent(a_request(headers={"traceparent": trace})) is None
