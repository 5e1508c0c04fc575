"""What happens around every request: its id, its one log line, its metric, its problem."""

import re
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler
from structlog.contextvars import bound_contextvars

from service.api.auth import PRINCIPAL
from service.api.problems import INTERNAL_ERROR, problem_of
from service.telemetry.logs import get_log
from service.telemetry.metrics import HTTP_SECONDS

REQUEST_ID: Final = web.RequestKey("request_id", str)

_log = get_log(__name__)
_RESPONSE = web.RequestKey("response", web.StreamResponse)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}", re.ASCII)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_LEFT = 499
_STRICT_POLICY = "default-src 'none'; frame-ancestors 'none'"


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, answer every error with a problem, and write one log line."""
    request[REQUEST_ID] = request_id = _request_id(request)
    started = perf_counter()
    status, failure = _CLIENT_LEFT, None
    with bound_contextvars(request_id=request_id):
        try:
            response = await handler(request)
            status = response.status
        except Exception as error:  # noqa: BLE001 - the last place where an error can be answered
            response, failure = _answer(request, error)
            status = response.status
        finally:
            _record(request, status, perf_counter() - started, failure)
    return response


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-ID", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _answer(request: web.Request, error: Exception) -> tuple[web.StreamResponse, Exception | None]:
    problem = problem_of(error)
    failure = error if problem is INTERNAL_ERROR else None
    begun = request.get(_RESPONSE)
    if begun is None:
        return problem.respond(request.rel_url.raw_path), failure
    # A second head inside a body that has begun would be taken for its content.
    if request.transport is not None:
        request.transport.abort()
    return begun, failure


def _record(request: web.Request, status: int, seconds: float, failure: Exception | None) -> None:
    resource = request.match_info.route.resource
    method = request.method if request.method in _METHODS else "OTHER"
    route = resource.canonical if resource else "unmatched"
    HTTP_SECONDS.labels(method=method, route=route, status=str(status)).observe(seconds)
    principal = request.get(PRINCIPAL)
    fields: dict[str, Any] = {
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
        "tenant": principal.owner.tenant_id if principal else None,
    }
    if failure is not None:
        _log.error("http_request", **fields, exc_info=failure)
    else:
        _log.info("http_request", **fields)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Complete the head of every response, streams included."""
    request[_RESPONSE] = response
    if REQUEST_ID in request:
        response.headers["X-Request-ID"] = request[REQUEST_ID]
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers.setdefault("Content-Security-Policy", _STRICT_POLICY)
    response.headers.setdefault("Cache-Control", "no-store")
