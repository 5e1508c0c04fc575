"""Requests with what was answered and what was logged about them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from aiohttp import ClientResponse
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from service import supervision
from service.api import api_keys, endings, followups, middleware, protocol
from service.api.statuses import CODES
from service.telemetry import audit
from service.telemetry.logs import get_log
from tests.fixtures.api import RunningApi
from tests.fixtures.waiting import eventually

_WHO_LOG = (api_keys, endings, followups, middleware, protocol, supervision, audit)


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answer and its one log line."""

    status: int
    headers: dict[str, str]
    body: bytes
    line: dict[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object answered."""
        document: dict[str, Any] = orjson.loads(self.body)
        return document


@dataclass(slots=True)
class Log:
    """Everything logged so far, ours and the HTTP library's."""

    lines: list[Any]
    library: pytest.LogCaptureFixture

    def requests(self) -> list[dict[str, Any]]:
        """The lines about requests."""
        return [line for line in self.lines if line["event"] == "http_request"]

    def decisions(self) -> list[dict[str, Any]]:
        """The records of who did what, without what all records have."""
        records = [line for line in self.lines if line["event"] == "audit"]
        common = {"event", "log_level", "request_id"}
        return [{k: v for k, v in record.items() if k not in common} for record in records]

    def has_no_traceback(self) -> None:
        """Fail if anything logged so far holds a traceback."""
        ours = [line for line in self.lines if line.get("exc_info")]
        theirs = [record for record in self.library.records if record.exc_info]
        if ours or theirs:
            pytest.fail(f"tracebacks: {ours} {[r.exc_text or r.exc_info for r in theirs]}")


@contextmanager
def logged(patch: pytest.MonkeyPatch, library: pytest.LogCaptureFixture) -> Iterator[Log]:
    """Hear all that is logged inside this block, whoever has configured the logs before."""
    for module in _WHO_LOG:
        patch.setattr(module, "_log", get_log(module.__name__))
    with capture_logs(processors=[merge_contextvars]) as lines:
        yield Log(lines, library)


async def exchange(api: RunningApi, log: Log, method: str, path: str, **request: Any) -> Exchange:
    """Send a request; its answer must have been logged exactly once, without a traceback."""
    before = len(log.requests())
    async with api.client.request(method, path, **request) as response:
        body = await response.read()
    [line] = await eventually(lambda: log.requests()[before:], what="the request's log line")
    assert line["status"] == response.status
    assert line["request_id"] == response.headers["X-Request-ID"]
    log.has_no_traceback()
    return Exchange(response.status, _headers(response), body, line)


async def refusal(api: RunningApi, log: Log, method: str, path: str, **request: Any) -> Exchange:
    """Send a request that must be answered with a problem document, of the code that is logged."""
    answer = await exchange(api, log, method, path, **request)
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = answer.document
    assert document["status"] == answer.status >= 400
    assert document["code"] == answer.line["code"]
    assert document["code"] in CODES[answer.status]
    assert document["instance"] == path.partition("?")[0]
    assert document.keys() >= {"type", "title", "detail", "errors"}
    return answer


def assert_protected(sent: Mapping[str, str]) -> None:
    """Fail unless an answer carries all that protects its reader."""
    assert re.fullmatch(r"[0-9a-f]{32}", sent["X-Request-ID"])
    protection = {
        "Server": "user-story-service",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    }
    assert {name: sent[name] for name in protection} == protection
    # For the proxy that speaks TLS.
    assert "Strict-Transport-Security" not in sent


def _headers(response: ClientResponse) -> dict[str, str]:
    return dict(response.headers)
