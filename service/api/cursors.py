"""Cursors of job lists: opaque to clients, and the place after which a page begins to us."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

# Its first eight bytes are microseconds; all that begin so lie between 1970 and the year 9961.
CURSOR_PATTERN: Final = "^A[A-Za-z0-3][A-Za-z0-9_-]{30}$"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CURSOR = re.compile(CURSOR_PATTERN, re.ASCII)


def encode_cursor(created_at: datetime, job_id: UUID) -> str:
    """Name the place of a job in a list sorted by time and id."""
    microseconds = (created_at - _EPOCH) // _MICROSECOND
    return urlsafe_b64encode(microseconds.to_bytes(8) + job_id.bytes).decode()


def decode_cursor(text: str) -> tuple[datetime, UUID] | None:
    """Read what `encode_cursor` wrote; anything else is None."""
    if not _CURSOR.fullmatch(text):
        return None
    place = urlsafe_b64decode(text)
    return _EPOCH + int.from_bytes(place[:8]) * _MICROSECOND, UUID(bytes=place[8:])
