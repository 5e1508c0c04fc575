"""GET /jobs/{id}/stream: a job's events as they happen, from wherever the client stopped."""

import asyncio
import random
from typing import Final

from aiohttp import web

from service.api.auth import PRINCIPAL
from service.api.dependencies import DEPENDENCIES
from service.api.parameters import read_job_id
from service.api.reader import Reader
from service.domain.errors import FieldError, InvalidInput, NotFound
from service.domain.events import BEGINNING, EventId
from service.domain.job import Job
from service.telemetry.metrics import SSE_CLIENTS, SSE_DROPPED

_KEEP_ALIVE_EVERY = 15.0
_KEEP_ALIVE: Final = b":\n\n"
_LONGEST_WRITE = 10.0
_RECONNECT_MS = (500, 1500)
_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    # nginx would hold events back until its buffer is full.
    "X-Accel-Buffering": "no",
}


async def stream_job(request: web.Request) -> web.StreamResponse:
    """Replay what the client has not seen, then follow the job to its end."""
    dependencies, principal = request.config_dict[DEPENDENCIES], request[PRINCIPAL]
    tenant_id, user_id = principal.owner.tenant_id, principal.visible_user
    cursor = _cursor(request)
    job = await dependencies.jobs.get_owned(read_job_id(request), tenant_id, user_id)
    if job is None:
        raise NotFound("no such job")
    if _has_seen_the_end(job, cursor):
        return web.Response(status=204)
    response = web.StreamResponse(headers=_HEADERS)
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    connected = await dependencies.snapshots.connected(job)
    async with dependencies.tails.read(job, cursor, tenant_id=tenant_id, user_id=user_id) as reader:
        await response.prepare(request)
        # Spread out, so that the clients of a replica that stops do not come back as one.
        retry = b"retry: %d\n\n" % random.randint(*_RECONNECT_MS)  # noqa: S311 - no secret
        with SSE_CLIENTS.track_inprogress():
            await _follow(request, response, reader, retry + connected.wire)
    return response


def _cursor(request: web.Request) -> EventId:
    """Read where the client stopped; what a browser sends by itself is never refused."""
    after = request.query.get("after")
    if after is None:
        return EventId.parse(request.headers.get("Last-Event-ID", "")) or BEGINNING
    cursor = EventId.parse(after)
    if cursor is None:
        message = "an event id looks like 1-42"
        raise InvalidInput(message, errors=[FieldError("after", message)])
    return cursor


def _has_seen_the_end(job: Job, cursor: EventId) -> bool:
    final = EventId.parse(job.final_event_id or "")
    return job.status.is_terminal and final is not None and cursor >= final


async def _follow(
    request: web.Request, response: web.StreamResponse, reader: Reader, opening: bytes
) -> None:
    chunk = opening
    try:
        while True:
            async with asyncio.timeout(_LONGEST_WRITE):
                await response.write(chunk)
            if reader.has_ended:
                break
            frames = await reader.next_batch(_KEEP_ALIVE_EVERY)
            chunk = b"".join(frame.wire for frame in frames) or _KEEP_ALIVE
    except TimeoutError:
        SSE_DROPPED.inc()
        if request.transport is not None:
            request.transport.abort()
    except ConnectionResetError:
        return  # the client has left, which is how most streams end
