"""The description of the API for people."""

from typing import Final

from aiohttp import web

from service.api.docs_page import POLICY

PAGE: Final = web.AppKey("docs", bytes)


async def answer_docs(request: web.Request) -> web.StreamResponse:
    """Answer with the page, rendered once at the start."""
    return web.Response(
        body=request.config_dict[PAGE],
        content_type="text/html",
        charset="utf-8",
        headers={"Content-Security-Policy": POLICY},
    )
