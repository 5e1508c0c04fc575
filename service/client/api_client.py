"""The calls of the HTTP API that clients make."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

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
from service.client.event_stream import Reading, SseParser, StreamEvent
from service.client.persistence import Persistence
from service.domain.job import JsonObject

_JSON = "application/json"
_MARKDOWN = "text/markdown"
_EVENTS = "text/event-stream"
_UNAVAILABLE = frozenset({502, 503, 504})
# 409 is what a repeated submission gets while the first one is still being accepted.
_SUBMISSION = _UNAVAILABLE | {409}
# 429: the server may not have noticed yet that our last stream is gone.
_STREAM = _UNAVAILABLE | {429}
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class ApiClient:
    """Talks to one service with one key; an async context manager.

    Calls raise `ApiProblem`, `Unreachable` or `UnexpectedReply`. What may pass is tried again
    for `patience` seconds, and a cut event stream for `reconnect_within`; `on_trouble` hears
    of it once per trouble. A stream silent for `silence` seconds counts as cut. `ValueError`
    for a base URL that is none.
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

    async def submit(
        self,
        story: str,
        *,
        iterations: Sequence[str] | None = None,
        mode: str | None = None,
        agent: str | None = None,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> JsonObject:
        """Submit a story once, however often the network makes this ask; `{job, links, ...}`."""
        body: JsonObject = {"story": story}
        if iterations is not None:
            body["iterations"] = list(iterations)
        if mode is not None:
            body["mode"] = mode
        if agent is not None:
            body["agent"] = agent
        if options:
            body["options"] = dict(options)
        headers = {"Idempotency-Key": idempotency_key or str(uuid4()), "Content-Type": _JSON}
        return await self._json(
            "POST", self._url(), headers=headers, data=orjson.dumps(body), retry=_SUBMISSION
        )

    async def get(self, job_id: UUID) -> JsonObject:
        """Read one job, with its result if it has one."""
        return await self._json("GET", self._url(job_id))

    async def list_jobs(
        self, *, status: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> JsonObject:
        """Read a page of jobs, newest first; `{jobs, nextCursor}`."""
        asked = {"status": status, "limit": str(limit), "cursor": cursor}
        query = {key: value for key, value in asked.items() if value is not None}
        return await self._json("GET", self._url() % query)

    async def cancel(self, job_id: UUID) -> JsonObject:
        """Cancel a job; cancelling it again is no error."""
        return await self._json("DELETE", self._url(job_id))

    async def purge(self, job_id: UUID) -> JsonObject:
        """Erase a job that has ended, for good; `{id, status}`."""
        return await self._json("DELETE", self._url(job_id) % {"purge": "true"})

    async def redrive(self, job_id: UUID) -> JsonObject:
        """Queue a failed job again, keeping what it has finished; `{job, links}`."""
        return await self._json("POST", self._url(job_id, "redrive"))

    async def result_markdown(self, job_id: UUID) -> str:
        """Read a finished job's improved story as Markdown."""
        url = self._url(job_id)
        body = await self._exchange("GET", url, headers={"Accept": _MARKDOWN}, expect=_MARKDOWN)
        return body.decode(errors="replace")

    async def follow(self, job_id: UUID, after: str | None = None) -> AsyncGenerator[StreamEvent]:
        """Yield a job's events, each once and in order, until the one that ends the job.

        A cut stream is taken up where it was; `after` is the id of an event already seen.
        """
        reading = Reading(after)
        persistence = self._persistence(self._reconnect_within, 1.0, _STREAM)
        while not reading.has_ended:
            failure: ClientFailure = Unreachable(str(self._base), "it ended", was_sent=True)
            try:
                async with aclosing(self._read_stream(job_id, reading, persistence)) as events:
                    async for event in events:
                        yield event
            except (ApiProblem, Unreachable) as caught:
                failure = caught
            if not reading.has_ended:
                await persistence.wait_after(failure, has_answered=self._has_answered)

    async def _read_stream(
        self, job_id: UUID, reading: Reading, persistence: Persistence
    ) -> AsyncGenerator[StreamEvent]:
        # Compression makes proxies and zlib hold events back.
        headers = {"Accept": _EVENTS, "Accept-Encoding": "identity"}
        if reading.cursor is not None:
            headers["Last-Event-ID"] = str(reading.cursor)
        url = self._url(job_id, "stream")
        try:
            async with self._opened.get(
                url, headers=headers, timeout=self._stream_timeout, allow_redirects=False
            ) as response:
                self._has_answered = True
                if response.status == 204:
                    reading.has_ended = True
                    return
                await self._check(response, _EVENTS)
                async with aclosing(_events(response, reading, persistence)) as events:
                    async for event in events:
                        yield event
        except ValueError as error:
            raise UnexpectedReply(str(url), "an event that cannot be read") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def _json(self, method: str, url: URL, **call: Any) -> JsonObject:
        call["headers"] = {"Accept": _JSON, **call.get("headers", {})}
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
        expect: str = _JSON,
        retry: frozenset[int] = _UNAVAILABLE,
        once: bool = False,
    ) -> bytes:
        """Make a call until it is answered, or if it may not be made twice, until it arrives."""
        persistence = self._persistence(self._patience, 0.25, retry)
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

    def _url(self, *path: UUID | str) -> URL:
        return self._base.joinpath("api", "v1", "jobs", *map(str, path))

    @property
    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use the client as an async context manager")
        return self._session


async def _events(
    response: aiohttp.ClientResponse, reading: Reading, persistence: Persistence
) -> AsyncGenerator[StreamEvent]:
    parser = SseParser()
    async for chunk in response.content.iter_any():
        for message in parser.feed(chunk):
            persistence.succeeded()
            event = reading.take(message)
            if event is not None:
                yield event
            if reading.has_ended:
                return
        if parser.retry_ms is not None:
            persistence.pause = parser.retry_ms / 1000


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
