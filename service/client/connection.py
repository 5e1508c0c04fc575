"""Requests to the service: what may pass is tried again, and errors are those of the client."""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import orjson
from yarl import URL

from service.client.errors import (
    ApiProblem,
    ClientFailure,
    UnexpectedReply,
    Unreachable,
    read_problem,
    read_retry_after,
)
from service.client.persistence import Persistence
from service.domain.job import JsonObject

JSON: Final = "application/json"
UNAVAILABLE: Final = frozenset({502, 503, 504})
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class Connection:
    """Talks to one service with one key; an async context manager.

    Calls raise `ApiProblem`, `Unreachable` or `UnexpectedReply`. What may pass is tried again
    for `patience` seconds, and a cut event stream or wait for `reconnect_within`; `on_trouble`
    hears of it once per trouble. A stream silent for `silence` seconds counts as cut.
    `ValueError` for a base URL that is none.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        patience: float = 10.0,
        reconnect_within: float = 120.0,
        silence: float = 45.0,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._base = _base_of(base_url)
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._patience = patience
        self._reconnect_within = reconnect_within
        self._on_trouble = on_trouble
        self._request_timeout = aiohttp.ClientTimeout(total=30, sock_connect=5)
        self._stream_timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=silence)
        self._session: aiohttp.ClientSession | None = None
        self._has_answered = False

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def _json(self, method: str, url: URL, **call: Any) -> JsonObject:
        call["headers"] = {"Accept": JSON, **call.get("headers", {})}
        body = await self._exchange(method, url, **call)
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise UnexpectedReply(str(self._base), "its answer is not JSON") from error
        if not isinstance(document, dict):
            raise UnexpectedReply(str(self._base), "its answer is not an object")
        return document

    async def _exchange(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str],
        data: bytes | None = None,
        expect: str = JSON,
        retry: frozenset[int] = UNAVAILABLE,
        once: bool = False,
        within: float | None = None,
    ) -> bytes:
        """Make a call until it is answered, or if it may not be made twice, until it arrives."""
        persistence = self._persistence(within or self._patience, 0.25, retry)
        while True:
            try:
                async with self._opened.request(
                    method,
                    url,
                    headers=headers,
                    data=data,
                    timeout=self._request_timeout,
                    allow_redirects=False,
                ) as response:
                    self._has_answered = True
                    await self._check(response, expect)
                    return await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                failure: ClientFailure = self._unreachable(error)
            except ApiProblem as problem:
                failure = problem
            if once and not (isinstance(failure, Unreachable) and not failure.was_sent):
                raise failure
            await persistence.wait_after(failure, has_answered=self._has_answered)

    async def _check(self, response: aiohttp.ClientResponse, expect: str) -> None:
        if response.ok and response.status < 300 and response.content_type == expect:
            return
        if response.status < 300:
            raise UnexpectedReply(str(self._base), f"it sent {response.content_type}")
        if response.status < 400:
            raise UnexpectedReply(
                str(self._base), f"it redirects to {response.headers.get('Location', 'nowhere')}"
            )
        problem = read_problem(response.status, response.headers, await response.read())
        if problem is not None:
            raise problem
        if response.status in {404, 405}:
            raise UnexpectedReply(str(self._base), f"{response.status} without a reason")
        code, detail = f"HTTP_{response.status}", response.reason or "no reason given"
        raise ApiProblem(response.status, code, detail, (), read_retry_after(response.headers))

    def _persistence(self, within: float, pause: float, retry: frozenset[int]) -> Persistence:
        return Persistence(within, pause, retry, self._on_trouble)

    def _unreachable(self, error: Exception) -> Unreachable:
        was_sent = not isinstance(error, _NOT_CONNECTED)
        reason = "no answer in time" if isinstance(error, asyncio.TimeoutError) else _told(error)
        return Unreachable(str(self._base), reason, was_sent=was_sent)

    @property
    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use the client as an async context manager")
        return self._session


def _base_of(text: str) -> URL:
    base = URL(text)
    if base.scheme not in {"http", "https"} or not base.host or base.user or base.password:
        raise ValueError("a base URL is http:// or https:// and a host, without a user")
    return base


def _told(error: Exception) -> str:
    """Say what failed without the address, which the message has already."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted ({error.certificate_error})"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _why(error.os_error)
    return str(error) or type(error).__name__


def _why(error: OSError) -> str:
    # asyncio puts the address into `strerror`; names that cannot be resolved have numbers of
    # their own.
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)
