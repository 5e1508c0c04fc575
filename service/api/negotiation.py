"""Which of several representations a caller would rather have."""

import re

from aiohttp import web

_QUALITY = re.compile(r"\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*", re.ASCII | re.IGNORECASE)
_MOST_RANGES = 50


def preference(request: web.Request, media_type: str) -> tuple[float, int]:
    """Rank a media type by the `Accept` header: its quality, then how exactly it is named.

    A quality of 0 means that it is not acceptable.
    """
    accept = ",".join(request.headers.getall("Accept", [])) or "*/*"
    kind = media_type.partition("/")[0]
    exactness = {"*/*": 0, f"{kind}/*": 1, media_type: 2}
    found = (-1, 0.0)
    for range_ in accept.split(",")[:_MOST_RANGES]:
        name, *parameters = range_.lower().split(";")
        rank = exactness.get(name.strip())
        if rank is not None:
            found = max(found, (rank, _quality(parameters)))
    rank, quality = found
    return quality, rank


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        match = _QUALITY.fullmatch(parameter)
        if match:
            return float(match[1])
    return 1.0
