"""Requests made by hand."""

from collections.abc import Mapping

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict


def a_request(
    query: str = "",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    path: Mapping[str, str] | None = None,
    app: web.Application | None = None,
) -> web.Request:
    """A request as a handler gets it; `path` holds the values of the path's names."""
    return make_mocked_request(
        method,
        f"/path?{query}",
        headers=CIMultiDict(headers or {}),
        match_info=dict(path or {}),
        app=app,
    )
