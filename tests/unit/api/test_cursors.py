"""A cursor leads back to exactly the place it was made for, and nothing else passes for one."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.cursors import decode_cursor, encode_cursor

_TIMES = st.datetimes(timezones=st.just(UTC))
_A_TIME = datetime(2026, 11, 25, 12, 0, 0, 123_456, tzinfo=UTC)


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
        "f_______" + "A" * 24,  # a time after the last one that exists
        "gAAAAAAA" + "A" * 24,  # a time before the first one
        encode_cursor(_A_TIME, UUID(int=1)) + "\n",
    ],
)
def test_what_we_did_not_write_is_no_cursor(text: str) -> None:
    assert decode_cursor(text) is None
