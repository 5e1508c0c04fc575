"""Puts the API together."""

import orjson
from aiohttp import web

from service.api.api_keys import KeyRing
from service.api.auth import AUTHENTICATOR, Authenticator
from service.api.cors import add_cors_headers, answer_preflight
from service.api.dependencies import DEPENDENCIES, ApiDependencies
from service.api.docs import PAGE
from service.api.docs_page import render_page
from service.api.endings import ENDINGS, Endings
from service.api.limits import add_rate_headers
from service.api.middleware import add_headers, close_when_leaving, observe
from service.api.openapi import DOCUMENT, describe
from service.api.places import STREAMS, WAITS, Places
from service.api.rates import RATES, Rates
from service.api.routes import METRICS, ROUTES
from service.api.submission import LARGEST_BODY


def create_app(dependencies: ApiDependencies) -> web.Application:
    """Build the application; its shutdown ends open streams and waits, so that handlers return."""
    app = web.Application(
        middlewares=(close_when_leaving, observe, answer_preflight),
        client_max_size=LARGEST_BODY,
        # Whoever hangs up after sending, as a page does that is left, meant what it sent.
        handler_args={"handler_cancellation": False},
    )
    app[DEPENDENCIES] = dependencies
    keys = KeyRing(dependencies.keys, dependencies.background)
    app[AUTHENTICATOR] = Authenticator(keys.recognise, dependencies.tokens)
    app[ENDINGS] = Endings(dependencies.jobs, dependencies.background)
    app[RATES] = Rates(dependencies.rate_limiter)
    app[STREAMS], app[WAITS] = Places("stream"), Places("wait")
    description = describe(ROUTES, dependencies.version)
    app[DOCUMENT] = orjson.dumps(description)
    app[PAGE] = render_page(description)
    for route in ROUTES:
        route.add_to(app)
    if dependencies.serve_metrics:
        METRICS.add_to(app)
    app.on_response_prepare.append(add_headers)
    app.on_response_prepare.append(add_rate_headers)
    app.on_response_prepare.append(add_cors_headers)
    app.on_shutdown.append(_end_streams_and_waits)
    return app


async def _end_streams_and_waits(app: web.Application) -> None:
    app[ENDINGS].close()
    await app[DEPENDENCIES].tails.close()
