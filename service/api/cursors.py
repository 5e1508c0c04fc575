"""Cursors of job lists: opaque to clients, and the place after which a page begins to us."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CURSOR = re.compile(r"[A-Za-z0-9_-]{32}", re.ASCII)


def encode_cursor(created_at: datetime, job_id: UUID) -> str:
    """Name the place of a job in a list sorted by time and id."""
    microseconds = (created_at - _EPOCH) // _MICROSECOND
    return urlsafe_b64encode(microseconds.to_bytes(8, signed=True) + job_id.bytes).decode()


def decode_cursor(text: str) -> tuple[datetime, UUID] | None:
    """Read what `encode_cursor` wrote; anything else is None."""
    if not _CURSOR.fullmatch(text):
        return None
    place = urlsafe_b64decode(text)
    try:
        created_at = _EPOCH + int.from_bytes(place[:8], signed=True) * _MICROSECOND
    except OverflowError:
        return None
    return created_at, UUID(bytes=place[8:])
