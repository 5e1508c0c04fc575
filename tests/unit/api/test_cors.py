"""A browser may call from listed origins only, and never with credentials of its own."""

from dataclasses import dataclass
from typing import cast

import pytest
from aiohttp import web

from service.api.cors import add_cors_headers, answer_preflight
from service.api.dependencies import DEPENDENCIES, ApiDependencies
from tests.unit.api.requests import a_request

LISTED = "https://app.example"


@dataclass
class Origins:
    """All that is asked of the dependencies here."""

    cors_origins: tuple[str, ...]


def an_app(*origins: str) -> web.Application:
    app = web.Application()
    app[DEPENDENCIES] = cast("ApiDependencies", Origins(origins))
    return app


async def handle(request: web.Request) -> web.StreamResponse:
    """A handler that only OPTIONS requests can be passed on to."""
    raise web.HTTPMethodNotAllowed(request.method, ["GET"])


async def preflight(*origins: str, **headers: str) -> web.StreamResponse:
    """Answer a preflight request for DELETE."""
    sent = {"Access-Control-Request-Method": "DELETE"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    request = a_request(method="OPTIONS", headers=sent, app=an_app(*origins))
    response = await answer_preflight(request, handle)
    await add_cors_headers(request, response)
    return response


async def cross(origin: str | None, *origins: str) -> web.Response:
    """Complete the answer to a GET request."""
    headers = {} if origin is None else {"Origin": origin}
    response = web.Response()
    await add_cors_headers(a_request(headers=headers, app=an_app(*origins)), response)
    return response


async def test_a_listed_origin_may_send_what_the_api_reads() -> None:
    response = await preflight(LISTED, Origin=LISTED)
    assert response.status == 204
    assert response.headers["Access-Control-Allow-Origin"] == LISTED
    assert "DELETE" in response.headers["Access-Control-Allow-Methods"].split(", ")
    allowed = response.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "X-API-Key", "Idempotency-Key", "Last-Event-ID"} <= set(allowed)


@pytest.mark.parametrize("origin", ["https://evil.example", LISTED + ":444", "null", ""])
async def test_no_other_origin_is_answered(origin: str) -> None:
    with pytest.raises(web.HTTPMethodNotAllowed):
        await preflight(LISTED, Origin=origin)


async def test_a_request_for_options_that_is_no_preflight_is_passed_on() -> None:
    request = a_request(method="OPTIONS", headers={"Origin": LISTED}, app=an_app(LISTED))
    with pytest.raises(web.HTTPMethodNotAllowed):
        await answer_preflight(request, handle)


async def test_a_listed_origin_may_read_answers() -> None:
    response = await cross(LISTED, LISTED, "https://other.example")
    assert response.headers["Access-Control-Allow-Origin"] == LISTED
    exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
    assert set(exposed) == {
        "X-Request-ID", "Location", "Retry-After", "RateLimit", "RateLimit-Policy",
    }  # fmt: skip
    assert response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", [None, "https://evil.example"])
async def test_caches_learn_that_answers_differ_by_origin(origin: str | None) -> None:
    response = await cross(origin, LISTED)
    assert "Access-Control-Allow-Origin" not in response.headers
    assert response.headers["Vary"] == "Origin"


async def test_everybody_is_let_in_without_repeating_their_words() -> None:
    response = await cross("https://anybody.example", "*")
    assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_without_a_list_nothing_is_said() -> None:
    response = await cross(LISTED)
    assert not response.headers.keys() & {"Access-Control-Allow-Origin", "Vary"}


@pytest.mark.parametrize("origins", [(LISTED,), ("*",)])
async def test_credentials_are_never_allowed(origins: tuple[str, ...]) -> None:
    for response in (await preflight(*origins, Origin=LISTED), await cross(LISTED, *origins)):
        assert "Access-Control-Allow-Credentials" not in response.headers
