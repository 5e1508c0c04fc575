"""The calls of the HTTP API that clients make."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast
from uuid import UUID, uuid4

import aiohttp
import orjson
from yarl import URL

from service.client.connection import JSON, UNAVAILABLE, Connection
from service.client.documents import AcceptedJob, DeletedJob, JobDocument, JobPage, RedrivenJob
from service.client.errors import ApiProblem, ClientFailure, UnexpectedReply, Unreachable
from service.client.event_stream import Reading, SseParser, StreamEvent
from service.client.persistence import Persistence
from service.domain.job import JobStatus, JsonObject

_MARKDOWN = "text/markdown"
_EVENTS = "text/event-stream"
# 409 is what a repeated submission gets while the first one is still being accepted.
_SUBMISSION = UNAVAILABLE | {409}
# 429: the server may not have noticed yet that our last stream or wait is gone.
_WATCHING = UNAVAILABLE | {429}
# Shorter than proxies usually bear a silent request.
_ONE_WAIT = "20"


class ApiClient(Connection):
    """Submits jobs, reads, watches and cancels them."""

    async def submit(
        self,
        story: str,
        *,
        iterations: Sequence[str] | None = None,
        mode: str | None = None,
        agent: str | None = None,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> AcceptedJob:
        """Submit a story once, however often the network makes this ask."""
        body: JsonObject = {"story": story}
        if iterations is not None:
            body["iterations"] = list(iterations)
        if mode is not None:
            body["mode"] = mode
        if agent is not None:
            body["agent"] = agent
        if options:
            body["options"] = dict(options)
        headers = {"Idempotency-Key": idempotency_key or str(uuid4()), "Content-Type": JSON}
        accepted = await self._json(
            "POST", self._url(), headers=headers, data=orjson.dumps(body), retry=_SUBMISSION
        )
        return cast("AcceptedJob", accepted)

    async def get(self, job_id: UUID) -> JobDocument:
        """Read one job, with its result if it has one."""
        return cast("JobDocument", await self._json("GET", self._url(job_id)))

    async def wait(self, job_id: UUID, *, within: float | None = None) -> JobDocument:
        """Return a job once it has ended; `TimeoutError` if that takes longer than `within`."""
        url = self._url(job_id) % {"wait": _ONE_WAIT}
        async with asyncio.timeout(within):
            while True:
                job = await self._json("GET", url, retry=_WATCHING, within=self._reconnect_within)
                if JobStatus(job["status"]).is_terminal:
                    return cast("JobDocument", job)

    async def list_jobs(
        self, *, status: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> JobPage:
        """Read a page of jobs, newest first."""
        asked = {"status": status, "limit": str(limit), "cursor": cursor}
        query = {key: value for key, value in asked.items() if value is not None}
        return cast("JobPage", await self._json("GET", self._url() % query))

    async def cancel(self, job_id: UUID) -> DeletedJob:
        """Cancel a job; cancelling it again is no error."""
        return cast("DeletedJob", await self._json("DELETE", self._url(job_id)))

    async def purge(self, job_id: UUID) -> DeletedJob:
        """Erase a job that has ended, for good."""
        url = self._url(job_id) % {"purge": "true"}
        return cast("DeletedJob", await self._json("DELETE", url))

    async def redrive(self, job_id: UUID) -> RedrivenJob:
        """Queue a failed job again, keeping what it has finished."""
        return cast("RedrivenJob", await self._json("POST", self._url(job_id, "redrive")))

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
        persistence = self._persistence(self._reconnect_within, 1.0, _WATCHING)
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

    def _url(self, *path: UUID | str) -> URL:
        return self._base.joinpath("api", "v1", "jobs", *map(str, path))


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
