"""The queue as a whole, for those who operate it: seen, paused and resumed."""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from service.api.auth import PRINCIPAL
from service.api.bodies import read_object, validated
from service.api.dependencies import DEPENDENCIES, ApiDependencies
from service.api.queue_documents import PauseOrder, PauseState, QueueDocument
from service.domain.errors import Unavailable
from service.ports.queue_control import StreamCounts
from service.telemetry.logs import get_log

_log = get_log(__name__)

# Who looks at a queue in trouble is not to wait for the server that may be the trouble.
_REDIS_SECONDS: Final = 0.8


async def get_queue(request: web.Request) -> web.StreamResponse:
    """Answer with how much there is to do, and whether it is done."""
    to = request.config_dict[DEPENDENCIES]
    pause, jobs, streams = await asyncio.gather(
        to.queue.current_pause(), to.queue.count_jobs(), _streams(to)
    )
    return QueueDocument.of(pause, jobs, streams).respond()


async def pause_queue(request: web.Request) -> web.StreamResponse:
    """Let no worker start another job; pausing again changes nothing."""
    order = PauseOrder()
    if request.can_read_body:
        order = validated(PauseOrder, await read_object(request), "pause")
    owner = request[PRINCIPAL].owner
    pause = await request.config_dict[DEPENDENCIES].queue.pause(
        f"{owner.tenant_id}/{owner.user_id}", order.reason
    )
    _log.warning("queue_paused", since=pause.since, by=pause.by, reason=pause.reason)
    return PauseState.of(pause).respond()


async def resume_queue(request: web.Request) -> web.StreamResponse:
    """Let workers start jobs again."""
    if await request.config_dict[DEPENDENCIES].queue.resume():
        owner = request[PRINCIPAL].owner
        _log.info("queue_resumed", by=f"{owner.tenant_id}/{owner.user_id}")
    return PauseState.of(None).respond()


async def _streams(to: ApiDependencies) -> Sequence[StreamCounts] | None:
    try:
        async with asyncio.timeout(_REDIS_SECONDS):
            return await to.streams.count_entries()
    except (Unavailable, TimeoutError) as error:
        _log.warning("streams_not_counted", error=repr(error))
        return None
