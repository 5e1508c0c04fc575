"""What every answer says to protect whoever reads it."""

from typing import Final

from aiohttp import web

_PROTECTION: Final = {
    # Instead of the versions of Python and of the library.
    "Server": "user-story-service",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_UNLESS_GIVEN: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def protect(response: web.StreamResponse) -> None:
    """Complete the head; pages bring a policy of their own, and may be cached.

    Strict-Transport-Security is for the proxy that speaks TLS.
    """
    response.headers.update(_PROTECTION)
    for name, value in _UNLESS_GIVEN.items():
        response.headers.setdefault(name, value)
