"""JSON bodies as the API writes them."""

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web


def to_json(value: Any) -> bytes:
    """Encode a body; times are RFC 3339 in UTC."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def json_response(
    value: Any,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> web.Response:
    """Answer with a JSON body."""
    return web.Response(
        body=to_json(value), status=status, headers=headers, content_type=content_type
    )
