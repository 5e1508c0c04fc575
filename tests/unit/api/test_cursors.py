"""A cursor leads back to exactly the place it was made for, and nothing else passes for one."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.cursors import CURSOR_PATTERN, decode_cursor, encode_cursor

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Those that a job can have been made at.
_TIMES = st.integers(0, 252 * 10**15).map(lambda passed: _EPOCH + timedelta(microseconds=passed))
_A_TIME = datetime(2026, 11, 25, 12, 0, 0, 123_456, tzinfo=UTC)


@given(st.from_regex(re.compile(CURSOR_PATTERN, re.ASCII), fullmatch=True))
def test_whatever_looks_like_a_cursor_leads_to_a_place(text: str) -> None:
    place = decode_cursor(text)
    assert place is not None
    assert encode_cursor(*place) == text


@given(_TIMES, st.uuids())
def test_a_cursor_keeps_the_very_microsecond_and_the_id(created_at: datetime, job: UUID) -> None:
    cursor = encode_cursor(created_at, job)
    assert decode_cursor(cursor) == (created_at, job)
    assert cursor.isascii()
    assert set("+/=&?#% ").isdisjoint(cursor)


@given(st.text(max_size=40))
def test_any_text_is_a_cursor_or_none(text: str) -> None:
    place = decode_cursor(text)
    assert place is None or encode_cursor(*place) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "A" * 31,
        "A" * 33,
        "_" * 31 + "=",
        "A4AAAAAA" + "A" * 24,  # a time of the year 9961
        "f_______" + "A" * 24,  # a time after the last one that exists
        "gAAAAAAA" + "A" * 24,  # a time before the first one
        encode_cursor(_A_TIME, UUID(int=1)) + "\n",
    ],
)
def test_what_we_did_not_write_is_no_cursor(text: str) -> None:
    assert decode_cursor(text) is None
