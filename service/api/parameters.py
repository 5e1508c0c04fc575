"""What callers say in paths, queries and headers; raises `InvalidInput` naming what is wrong."""

import re
from collections.abc import Collection
from datetime import datetime
from typing import Final
from uuid import UUID

from aiohttp import web

from service.api.cursors import decode_cursor
from service.api.dead_letter_documents import ERROR_CODE_PATTERN
from service.domain.errors import FieldError, InvalidInput, NotFound
from service.domain.iterations import PRODUCT_TYPES
from service.domain.job import JobStatus
from service.domain.traces import trace_id

LONGEST_WAIT: Final = 60
LARGEST_PAGE: Final = 100
DEFAULT_PAGE: Final = 20
MOST_DAYS: Final = 90
DEFAULT_DAYS: Final = 30

_SECONDS = re.compile(r"\d{1,3}(\.\d{1,30})?([eE][+-]?\d{1,3})?", re.ASCII)
_COUNT = re.compile(r"\d{1,4}", re.ASCII)
_ERROR_CODE = re.compile(ERROR_CODE_PATTERN, re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}", re.ASCII)


def read_job_id(request: web.Request) -> UUID:
    """Return the job in the path; what is no id belongs to no job, so raises `NotFound`."""
    text = request.match_info["id"]
    if not _UUID.fullmatch(text):
        raise NotFound("no job has such an id")
    return UUID(text)


def read_wait(request: web.Request) -> float:
    """Return how many seconds the caller will wait for the job to end; 0 by default."""
    text = request.query.get("wait", "0")
    if not _SECONDS.fullmatch(text) or float(text) > LONGEST_WAIT:
        raise _refusal("wait", f"give a number of seconds from 0 to {LONGEST_WAIT}")
    return float(text)


def read_purge(request: web.Request) -> bool:
    """Return whether the job is to be erased instead of cancelled."""
    return read_choice(request, "purge", ("true", "false")) == "true"


def read_limit(request: web.Request) -> int:
    """Return how many items a page may have."""
    text = request.query.get("limit", str(DEFAULT_PAGE))
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= LARGEST_PAGE:
        raise _refusal("limit", f"give a number from 1 to {LARGEST_PAGE}")
    return int(text)


def read_days(request: web.Request) -> int:
    """Return how many days of history are asked for."""
    text = request.query.get("days", str(DEFAULT_DAYS))
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= MOST_DAYS:
        raise _refusal("days", f"give a number from 1 to {MOST_DAYS}")
    return int(text)


def read_whole_tenant(request: web.Request) -> bool:
    """Return whether the sum of the whole tenant is asked for, not only the caller's own."""
    return read_choice(request, "scope", ("user", "tenant")) == "tenant"


def read_status(request: web.Request) -> JobStatus | None:
    """Return the status that listed jobs must have; None for any."""
    chosen = read_choice(request, "status", tuple(JobStatus))
    return None if chosen is None else JobStatus(chosen)


def read_product_type(request: web.Request) -> str:
    """Return the type of product, which there is no default for."""
    chosen = read_choice(request, "productType", PRODUCT_TYPES)
    if chosen is None:
        raise _refusal("productType", f"give one of {', '.join(PRODUCT_TYPES)}")
    return chosen


def read_verify(request: web.Request) -> bool:
    """Return whether a second call reviews each iteration, as one does by default."""
    return read_choice(request, "verify", ("true", "false")) != "false"


def read_choice(request: web.Request, name: str, choices: Collection[str]) -> str | None:
    """Return which of the choices a filter names; None without the filter."""
    text = request.query.get(name)
    if text is not None and text not in choices:
        raise _refusal(name, f"it is not one of {', '.join(choices)}")
    return text


def read_error_code(request: web.Request) -> str | None:
    """Return the error code that listed jobs must have; None for any."""
    text = request.query.get("code")
    if text is not None and not _ERROR_CODE.fullmatch(text):
        raise _refusal("code", "an error code looks like MODEL_UNAVAILABLE")
    return text


def read_cursor(request: web.Request) -> tuple[datetime, UUID] | None:
    """Return the place after which the page begins; None for the first page."""
    text = request.query.get("cursor")
    if text is None:
        return None
    place = decode_cursor(text)
    if place is None:
        raise _refusal("cursor", "it is not a `nextCursor` of this service")
    return place


def read_idempotency_key(request: web.Request) -> str | None:
    """Return the key under which a repeated submission is recognised."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise _refusal("Idempotency-Key", "give 1 to 255 visible ASCII characters")
    return key


def read_trace_parent(request: web.Request) -> str | None:
    """Return the W3C trace context to carry on; one that is malformed counts as none."""
    given = request.headers.get("traceparent")
    return None if trace_id(given) is None else given


def _refusal(field: str, message: str) -> InvalidInput:
    return InvalidInput(f"{field}: {message}", errors=[FieldError(field, message)])
