"""Published frames in a cluster: each is told by the servers of its shard alone."""

from asyncio import Lock, Queue, Task, gather
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing, suppress
from typing import Any
from uuid import UUID

from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

from service.domain.errors import Unavailable
from service.domain.frames import Frame
from service.streams import keys
from service.streams.cluster import ClusterClient, Server
from service.streams.connection import Client, redis_errors
from service.streams.event_feed import RedisEventFeed
from service.streams.outages import Outage, pause_before_reconnecting
from service.supervision import Background

# What is not taken off the queue holds up the connections, and so in the end the servers.
_MOST_QUEUED = 1000

Heard = tuple[UUID, Frame] | None


class ClusterEventFeed:
    """One subscription connection per server that has slots.

    Where a slot is, is learned anew whenever one of them is lost; trouble with one delays no
    frames of the others. `once` never repeats a command.
    """

    def __init__(self, once: ClusterClient, background: Background) -> None:
        self._once = once
        self._background = background
        self._feeds: dict[Server, _ShardFeed] = {}
        self._hearing: dict[Server, Task[None]] = {}
        self._watched: dict[UUID, Server | None] = {}
        self._heard: Queue[Heard] = Queue(_MOST_QUEUED)
        self._moving = Lock()

    async def subscribe(self, job_id: UUID) -> None:
        """Start receiving a job's frames; returns once its shard has confirmed it."""
        server = self._once.server_of(keys.live(job_id))
        self._watched[job_id] = server
        if server is None:
            raise Unavailable("Redis")
        await self._feed_of(server).subscribe(job_id)

    async def unsubscribe(self, job_id: UUID) -> None:
        """Stop receiving a job's frames."""
        server = self._watched.pop(job_id, None)
        if server in self._feeds:
            await self._feeds[server].unsubscribe(job_id)

    async def frames(self) -> AsyncIterator[Heard]:
        """Yield (job, frame) as they come, and None after every (re)connection."""
        try:
            await self._follow_slots()
            while not self._once.servers:
                await pause_before_reconnecting()
                await self._follow_slots()
            while True:
                yield await self._heard.get()
        finally:
            await self._background.cancel(list(self._hearing.values()))

    def _feed_of(self, server: Server) -> "_ShardFeed":
        if server not in self._feeds:
            self._feeds[server] = _ShardFeed(self._once.client_of(server))
            self._hearing[server] = self._background.spawn(
                f"shard:{server[0]}:{server[1]}", self._hear(server)
            )
        return self._feeds[server]

    async def _hear(self, server: Server) -> None:
        outage = Outage("event_feed", server=server[0])
        while server in self._feeds:
            try:
                async with aclosing(self._feeds[server].frames_until_lost()) as frames:
                    async for heard in frames:
                        outage.is_over()
                        await self._heard.put(heard)
            except Unavailable as error:
                outage.lasts(error)
            await pause_before_reconnecting()
            await self._follow_slots()
            if server not in self._once.servers:
                del self._feeds[server], self._hearing[server]

    async def _follow_slots(self) -> None:
        """Listen to every server that has slots by now, and to each job where it is."""
        async with self._moving:
            with suppress(Unavailable), redis_errors():
                await self._once.learn()
            for server in self._once.servers:
                self._feed_of(server)
            moved = [
                job_id
                for job_id, server in self._watched.items()
                if server != self._once.server_of(keys.live(job_id))
            ]
            await gather(*map(self._move, moved))
        if moved:
            await self._heard.put(None)

    async def _move(self, job_id: UUID) -> None:
        # Its last reader may have left meanwhile.
        if job_id not in self._watched:
            return
        before, server = self._watched[job_id], self._once.server_of(keys.live(job_id))
        self._watched[job_id] = server
        if before in self._feeds:
            await self._feeds[before].unsubscribe(job_id)
        # Or now.
        if server is not None and self._watched.get(job_id) == server:
            # Where nobody listens yet, connecting subscribes to it as well.
            with suppress(Unavailable):
                await self._feed_of(server).subscribe(job_id)


class _ShardFeed(RedisEventFeed):
    """The frames of one server's slots; lost when one of them goes elsewhere."""

    def __init__(self, once: Client) -> None:
        super().__init__(once)
        # Channels that were left, and the server has not said so yet.
        self._leaving: Counter[bytes] = Counter()

    async def _listen(self, connection: PubSub, job_ids: Collection[UUID]) -> None:
        # Each is in a slot of its own, and one command must not name two slots.
        for job_id in job_ids:
            await connection.ssubscribe(keys.live(job_id))

    async def _resubscribe(self, connection: PubSub) -> None:
        self._leaving.clear()
        await super()._resubscribe(connection)

    async def _leave(self, connection: PubSub, job_id: UUID) -> None:
        channel = keys.live(job_id)
        self._leaving[channel.encode()] += 1
        await connection.sunsubscribe(channel)

    def _receive(self, message: dict[str, Any]) -> tuple[UUID, Frame] | None:
        if message["type"] == "sunsubscribe":
            self._left(message["channel"])
        return super()._receive(message)

    def _left(self, channel: bytes) -> None:
        if channel in self._leaving:
            self._leaving[channel] -= 1
            if not self._leaving[channel]:
                del self._leaving[channel]
        elif self._is_watched(channel):
            raise RedisConnectionError("the server no longer has the slot of a watched job")
