"""What happens around every request: its id, its one log line, its metric, its problem."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler
from structlog.contextvars import bound_contextvars

from service.api.audit import record_decision
from service.api.auth import PRINCIPAL
from service.api.dependencies import DEPENDENCIES
from service.api.documents import JOBS_PATH
from service.api.headers import protect
from service.api.parameters import read_trace_parent
from service.api.problems import INTERNAL_ERROR, problem_of
from service.domain.errors import Unavailable
from service.domain.traces import trace_id
from service.telemetry.logs import get_log
from service.telemetry.metrics import HTTP_SECONDS
from service.telemetry.tracing import NO_SPAN, Kind, Span, span

REQUEST_ID: Final = web.RequestKey("request_id", str)
# Where the trace goes on that the request belongs to, if it belongs to one.
TRACE_PARENT: Final = web.RequestKey("trace_parent", str)

_log = get_log(__name__)
_RESPONSE = web.RequestKey("response", web.StreamResponse)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}", re.ASCII)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Asked every few seconds by machines; worth a line only when the answer is bad.
_PROBES = frozenset({"/healthz", "/readyz", "/health", "/ready", "/metrics"})
_UNMATCHED = "unmatched"
# A stream lasts as long as its job; one span of an hour would say nothing of either.
_NOT_TRACED = _PROBES | {_UNMATCHED, JOBS_PATH + "/{id}/stream"}
_CLIENT_LEFT = 499


@dataclass(slots=True)
class _Outcome:
    """How a request ended; until something better is known, its client has left."""

    status: int = _CLIENT_LEFT
    code: str | None = None
    error: Exception | None = None


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, answer every error with a problem, and write one log line."""
    request[REQUEST_ID] = request_id = _request_id(request)
    started, outcome = perf_counter(), _Outcome()
    with _traced(request) as traced, bound_contextvars(request_id=request_id, **_trace(request)):
        try:
            response = await handler(request)
            outcome.status = response.status
        except Exception as error:  # noqa: BLE001 - the last place where an error can be answered
            response = _answer(request, error, outcome)
        finally:
            _record(request, outcome, perf_counter() - started)
            traced.note({"http.response.status_code": outcome.status})
            if outcome.status >= web.HTTPInternalServerError.status_code:
                traced.fail(outcome.code or str(outcome.status))
    return response


@web.middleware
async def close_when_leaving(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let what an API answers that leaves be the last of its connection."""
    response = await handler(request)
    if request.app[DEPENDENCIES].is_leaving() and not response.prepared:
        # Its client asks somebody else next, instead of meeting a connection that is being closed.
        response.force_close()
    return response


@contextmanager
def _traced(request: web.Request) -> Iterator[Span]:
    given, method, route = read_trace_parent(request), _method(request), _route(request)
    about = {"http.request.method": method, "http.route": route}
    begun = (
        nullcontext(NO_SPAN)
        if route in _NOT_TRACED
        else span(Kind.SERVER, f"{method} {route}", parent=given, attributes=about)
    )
    with begun as traced:
        trace_parent = traced.trace_parent or given
        if trace_parent is not None:
            request[TRACE_PARENT] = trace_parent
        yield traced


def _trace(request: web.Request) -> dict[str, str]:
    trace = trace_id(request.get(TRACE_PARENT))
    return {} if trace is None else {"trace_id": trace}


def _method(request: web.Request) -> str:
    return request.method if request.method in _METHODS else "OTHER"


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource else _UNMATCHED


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-ID", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _answer(request: web.Request, error: Exception, outcome: _Outcome) -> web.StreamResponse:
    problem, transport = problem_of(error), request.transport
    begun: web.StreamResponse | None = request.get(_RESPONSE)
    is_gone = transport is None or transport.is_closing()
    if not (is_gone and isinstance(error, ConnectionError)):
        outcome.status, outcome.code, outcome.error = problem.status, problem.code, error
    if begun is None:
        return problem.respond(request.rel_url.raw_path)
    # A second head inside a body that has begun would be taken for its content.
    if transport is not None:
        transport.abort()
    return begun


def _record(request: web.Request, outcome: _Outcome, seconds: float) -> None:
    method, route, status = _method(request), _route(request), outcome.status
    HTTP_SECONDS.labels(method=method, route=route, status=str(status)).observe(seconds)
    principal = request.get(PRINCIPAL)
    fields: dict[str, Any] = {
        "method": method,
        "route": route,
        "status": status,
        "code": outcome.code,
        "duration_ms": round(seconds * 1000, 1),
        "tenant": principal.owner.tenant_id if principal else None,
    }
    if outcome.code == INTERNAL_ERROR.code:
        _log.error("http_request", **fields, exc_info=outcome.error)
    elif isinstance(outcome.error, Unavailable):
        _log.warning("http_request", **fields, reason=str(outcome.error))
    elif route in _PROBES and status < web.HTTPBadRequest.status_code:
        _log.debug("http_request", **fields)
    else:
        _log.info("http_request", **fields)
    record_decision(request, status, outcome.code)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Complete the head of every response, streams included."""
    request[_RESPONSE] = response
    if REQUEST_ID in request:
        response.headers["X-Request-ID"] = request[REQUEST_ID]
    protect(response)
