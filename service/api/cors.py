"""Cross-origin requests, from an allow-list of origins only."""

from aiohttp import web
from aiohttp.typedefs import Handler

from service.api.dependencies import DEPENDENCIES

_REQUEST_HEADERS = (
    "Authorization, X-API-Key, Idempotency-Key, Last-Event-ID, Content-Type, X-Request-ID"
)
_EXPOSED = "X-Request-ID, Location, Retry-After, RateLimit, RateLimit-Policy"
_METHODS = "GET, HEAD, POST, DELETE"
_EVERYBODY = "*"


@web.middleware
async def answer_preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what a browser asks before a request of a listed origin; pass on all others."""
    asked = request.headers.get("Access-Control-Request-Method")
    if request.method != "OPTIONS" or asked is None or _allowed_origin(request) is None:
        return await handler(request)
    headers = {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": _REQUEST_HEADERS,
        "Access-Control-Max-Age": "600",
    }
    return web.Response(status=204, headers=headers)


async def add_cors_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Let a listed origin read the response; credentials are never allowed."""
    if not request.config_dict[DEPENDENCIES].cors_origins:
        return
    response.headers.add("Vary", "Origin")
    origin = _allowed_origin(request)
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED


def _allowed_origin(request: web.Request) -> str | None:
    """Return whom to allow; where everybody is, the caller's own words are not repeated."""
    listed = request.config_dict[DEPENDENCIES].cors_origins
    origin = request.headers.get("Origin")
    if origin is None:
        return None
    if _EVERYBODY in listed:
        return _EVERYBODY
    return origin if origin in listed else None
