"""Opens a port for an application and closes it in the right order."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

# Streams and waits end at once on shutdown, so this is for ordinary requests.
_LAST_REQUESTS = 6.0
_BACKLOG = 1024


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve an application inside this block; yields its base URL. Port 0 is any free one.

    Raises `OSError` for a port that is taken.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_LAST_REQUESTS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=_BACKLOG, reuse_address=True)
        await site.start()
        yield _base_url(runner.addresses[0])
    finally:
        await runner.cleanup()


def _base_url(bound: tuple[str, int]) -> str:
    host, port = bound[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - read here, not bound
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
