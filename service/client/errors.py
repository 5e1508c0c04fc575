"""What can go wrong between a client and the service."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.domain.errors import FieldError


class ClientFailure(Exception):
    """A call to the service that gave no usable answer."""


class Unreachable(ClientFailure):
    """Nothing answered at `url`; `was_sent` says whether the request may have arrived."""

    def __init__(self, url: str, reason: str, *, was_sent: bool = False) -> None:
        verb = "lost the connection to" if was_sent else "cannot reach"
        super().__init__(f"{verb} {url}: {reason}")
        self.url = url
        self.was_sent = was_sent


class UnexpectedReply(ClientFailure):
    """Something answered at `url`, but not as this service does."""

    def __init__(self, url: str, what: str) -> None:
        super().__init__(f"{url} does not answer like this service: {what}")
        self.url = url


class ApiProblem(ClientFailure):
    """The service refused the request; `retry_after` is in seconds."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after


def read_problem(status: int, headers: Mapping[str, str], body: bytes) -> ApiProblem | None:
    """Read an `application/problem+json` answer; None if it is not one."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict) or not isinstance(document.get("code"), str):
        return None
    detail = document.get("detail") or document.get("title") or ""
    errors = document.get("errors")
    return ApiProblem(
        status,
        document["code"],
        str(detail),
        [_field_error(error) for error in errors] if isinstance(errors, list) else (),
        read_retry_after(headers),
    )


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After` in seconds; its date form is not used by this service."""
    value = headers.get("Retry-After", "").strip()
    return float(value) if value.isascii() and value.isdigit() else None


def _field_error(error: Any) -> FieldError:
    if not isinstance(error, dict):
        return FieldError("", str(error))
    return FieldError(str(error.get("field", "")), str(error.get("message", "")))
