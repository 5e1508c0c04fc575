"""GET /jobs/{id}/stream: a job's events as they happen, from wherever the client stopped."""

import asyncio
import random
import socket
import sys
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from aiohttp import web

from service.api.auth import PRINCIPAL, authorize
from service.api.dependencies import DEPENDENCIES
from service.api.parameters import read_job_id
from service.api.places import STREAMS
from service.api.reader import Reader
from service.domain.api_keys import Scope
from service.domain.errors import FieldError, InvalidInput, NotFound, Unavailable
from service.domain.events import BEGINNING, EventId
from service.domain.job import Job
from service.telemetry.metrics import SSE_CLIENTS, SSE_DROPPED

_KEEP_ALIVE_EVERY = 15.0
_KEEP_ALIVE: Final = b":\n\n"
_LONGEST_WRITE = 10.0
# With the half minute that keys are remembered, within a minute of a revocation.
_AUTHORIZE_EVERY = 20.0
_RECONNECT_MS = (500, 1500)
# What the kernel holds for a client that does not read, instead of megabytes.
_SEND_BUFFER = 65_536
_UNACKNOWLEDGED_MS = 30_000
_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    # nginx would hold events back until its buffer is full.
    "X-Accel-Buffering": "no",
}


async def stream_job(request: web.Request) -> web.StreamResponse:
    """Replay what the client has not seen, then follow the job to its end."""
    dependencies, principal = request.config_dict[DEPENDENCIES], request[PRINCIPAL]
    cursor = _cursor(request)
    job = await dependencies.jobs.get_owned(
        read_job_id(request), principal.owner.tenant_id, principal.visible_user
    )
    if job is None:
        raise NotFound("no such job")
    if _has_seen_the_end(job, cursor):
        return web.Response(status=204)
    response = web.StreamResponse(headers=_HEADERS)
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    with request.config_dict[STREAMS].taken_by(principal.owner, principal.tier.open_streams):
        await _serve(request, response, job, cursor)
    return response


async def _serve(
    request: web.Request, response: web.StreamResponse, job: Job, cursor: EventId
) -> None:
    dependencies, principal = request.config_dict[DEPENDENCIES], request[PRINCIPAL]
    connected = await dependencies.snapshots.connected(job)
    reading = dependencies.tails.read(
        job,
        cursor,
        tenant_id=principal.owner.tenant_id,
        user_id=principal.visible_user,
        is_gone=lambda: _is_gone(request),
    )
    async with reading as reader:
        _bound_what_is_unread(request)
        await response.prepare(request)
        # Spread out, so that the clients of a replica that stops do not come back as one.
        retry = b"retry: %d\n\n" % random.randint(*_RECONNECT_MS)  # noqa: S311 - no secret
        with SSE_CLIENTS.track_inprogress():
            await _follow(request, response, reader, retry + connected.wire)


def _cursor(request: web.Request) -> EventId:
    """Read where the client stopped; what a browser sends by itself is never refused."""
    # A browser that reconnects repeats its URL, and has come further since.
    came_to = EventId.parse(request.headers.get("Last-Event-ID", "")) or BEGINNING
    after = request.query.get("after")
    if after is None:
        return came_to
    began_at = EventId.parse(after)
    if began_at is None:
        message = "an event id looks like 1-42"
        raise InvalidInput(message, errors=[FieldError("after", message)])
    return max(began_at, came_to)


def _has_seen_the_end(job: Job, cursor: EventId) -> bool:
    final = EventId.parse(job.final_event_id or "")
    return job.status.is_terminal and final is not None and cursor >= final


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _bound_what_is_unread(request: web.Request) -> None:
    transport = request.transport
    connection: Any = transport.get_extra_info("socket") if transport else None
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    with suppress(OSError):  # it has just been closed
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if sys.platform == "linux":
            # A client that vanished without a word would else be kept for a quarter of an hour.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)


async def _follow(
    request: web.Request, response: web.StreamResponse, reader: Reader, opening: bytes
) -> None:
    chunk, authorized_at = opening, monotonic()
    try:
        while True:
            async with asyncio.timeout(_LONGEST_WRITE):
                await response.write(chunk)
            reader.written()
            if reader.has_ended:
                break
            unsure_in = authorized_at + _AUTHORIZE_EVERY - monotonic()
            frames = await reader.next_batch(min(_KEEP_ALIVE_EVERY, max(0.0, unsure_in)))
            chunk = b"".join(frame.wire for frame in frames) or _KEEP_ALIVE
            if monotonic() - authorized_at >= _AUTHORIZE_EVERY:
                await _authorize_again(request)
                authorized_at = monotonic()
    except TimeoutError:
        SSE_DROPPED.inc()
        if request.transport is not None:
            request.transport.abort()
    except ConnectionResetError:
        return  # the client has left, which is how most streams end


async def _authorize_again(request: web.Request) -> None:
    """Raise if the key has been revoked or has expired since; in doubt, the stream goes on."""
    with suppress(Unavailable):
        await authorize(request, Scope.JOBS_READ)
