"""Opens a port for an application and closes it in the right order."""

from asyncio import get_running_loop
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from service.api.protocol import Protocol

# Streams and waits end at once on shutdown, so this is for ordinary requests.
_LAST_REQUESTS = 6.0
_BACKLOG = 1024


class Port(web.BaseSite):
    """A port whose connections are limited, and speak of errors as our handlers do."""

    def __init__(self, runner: web.BaseRunner, host: str, port: int) -> None:
        super().__init__(runner, backlog=_BACKLOG)
        self._host = host
        self._port = port

    @property
    def name(self) -> str:
        """Where it is."""
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Begin to listen; raises `OSError` for a port that is taken."""
        await super().start()
        server = self._runner.server
        if server is None:
            raise AssertionError("a site is made after its runner has been set up")
        self._server = await get_running_loop().create_server(
            lambda: Protocol(server),
            self._host,
            self._port,
            backlog=self._backlog,
            reuse_address=True,
        )


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve an application inside this block; yields its base URL. Port 0 is any free one.

    Raises `OSError` for a port that is taken.
    """
    runner = web.AppRunner(app, shutdown_timeout=_LAST_REQUESTS)
    await runner.setup()
    try:
        await Port(runner, host, port).start()
        yield _base_url(runner.addresses[0])
    finally:
        await runner.cleanup()


def _base_url(bound: tuple[str, int]) -> str:
    host, port = bound[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - read here, not bound
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
