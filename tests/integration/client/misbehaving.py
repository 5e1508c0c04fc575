"""A server that answers one request after the other as it was told to."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from aiohttp import web

Behaviour: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class MisbehavingServer:
    """Plays its script, one behaviour per request; the last one goes on for ever."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.open_streams = 0
        self._script: deque[Behaviour] = deque()
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._port}"

    def plays(self, *script: Behaviour) -> None:
        """Set what comes next."""
        self._script = deque(script)

    async def start(self) -> None:
        """Listen, after a stop on the same port again."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Drop every connection and stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(Seen(request.method, request.path_qs, dict(request.headers), body))
        behaviour = self._script.popleft() if len(self._script) > 1 else self._script[0]
        self.open_streams += 1
        try:
            return await behaviour(request)
        finally:
            self.open_streams -= 1


def says(
    status: int = 200,
    body: Any = b"",
    content_type: str = "application/json",
    **headers: str,
) -> Behaviour:
    """Answer at once; anything but bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=content, content_type=content_type, headers=named)

    return answer


def refuses(status: int, code: str, **headers: str) -> Behaviour:
    """Answer with a problem document."""
    problem = {"code": code, "detail": f"told to answer {status}"}
    return says(status, problem, "application/problem+json", **headers)


async def drops(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    return _abort(request)


async def hangs(_: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


def streams(
    *parts: bytes,
    then: str = "end",
    every: float = 0.0,
    content_type: str = "text/event-stream",
) -> Behaviour:
    """Send parts one by one, a pause before each, then `end`, `abort` or `hang`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        for part in parts:
            await asyncio.sleep(every)
            await response.write(part)
        if then == "abort":
            return _abort(request)
        if then == "hang":
            await asyncio.Event().wait()
        return response

    return answer


def event(event_id: str | None, event_type: str, **data: Any) -> bytes:
    """Write one event on the wire."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {event_type}\ndata: {orjson.dumps(data).decode()}\n\n".encode()


def _abort(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
