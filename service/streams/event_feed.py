"""Published frames of the jobs that somebody watches, over one subscription connection."""

from asyncio import Future, Lock, get_running_loop, wait
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing, suppress
from typing import Any
from uuid import UUID

from redis.asyncio.client import PubSub

from service.domain.errors import Unavailable
from service.domain.frames import Frame, parse_frame
from service.streams import keys
from service.streams.connection import Client, redis_errors
from service.streams.outages import Outage, pause_before_reconnecting
from service.streams.subscription import Subscription
from service.telemetry.logs import get_log

_log = get_log(__name__)

_CONFIRMED_WITHIN = 2.0
# Those that begin with s are of a shard.
_CONFIRMED = frozenset({"subscribe", "ssubscribe"})
_PUBLISHED = frozenset({"message", "smessage"})


class RedisEventFeed:
    """Pub/sub loses messages: who uses this compares ids and reads the stream when one is missing.

    `once` is a client that never repeats a command.
    """

    def __init__(self, once: Client) -> None:
        self._once = once
        self._watched: set[UUID] = set()
        self._confirmations: dict[UUID, Future[None]] = {}
        self._connection: PubSub | None = None
        self._writing = Lock()

    async def subscribe(self, job_id: UUID) -> None:
        """Start receiving a job's frames; returns once Redis has confirmed it."""
        self._watched.add(job_id)
        confirmed = self._confirmations.setdefault(job_id, get_running_loop().create_future())
        async with self._writing:
            with redis_errors():
                await self._listen(self._open_connection(), [job_id])
        # Awaited from outside, so that whoever leaves does not cancel it for those who stay.
        await wait({confirmed}, timeout=_CONFIRMED_WITHIN)
        if not confirmed.done():
            raise Unavailable("Redis")

    async def unsubscribe(self, job_id: UUID) -> None:
        """Stop receiving a job's frames."""
        self._watched.discard(job_id)
        self._confirmations.pop(job_id, None)
        # In turn: who subscribes while this waits does so afterwards.
        async with self._writing:
            # A connection that fails now has nothing to unsubscribe from any more.
            with suppress(Unavailable), redis_errors():
                await self._leave(self._open_connection(), job_id)

    def _open_connection(self) -> Any:
        subscriber: Any = self._connection
        connection = subscriber and subscriber.connection
        # One that broke would connect again, behind the back of whoever reads from it.
        if connection is None or not connection.is_connected:
            raise Unavailable("Redis")
        return subscriber

    async def _listen(self, connection: PubSub, job_ids: Collection[UUID]) -> None:
        if job_ids:
            await connection.subscribe(*map(keys.live, job_ids))

    async def _leave(self, connection: PubSub, job_id: UUID) -> None:
        await connection.unsubscribe(keys.live(job_id))

    async def frames(self) -> AsyncIterator[tuple[UUID, Frame] | None]:
        """Yield (job, frame) as they come, and None after every (re)connection."""
        outage = Outage("event_feed")
        while True:
            try:
                async with aclosing(self.frames_until_lost()) as frames:
                    async for each in frames:
                        outage.is_over()
                        yield each
            except Unavailable as error:
                outage.lasts(error)
                await pause_before_reconnecting()

    async def frames_until_lost(self) -> AsyncGenerator[tuple[UUID, Frame] | None]:
        """Yield None once connected, then (job, frame); raises `Unavailable` when that ends."""
        try:
            with redis_errors():
                async with self._once.pubsub() as connection:
                    await self._resubscribe(connection)
                    yield None
                    subscription = Subscription(connection)
                    while True:
                        message = await subscription.next_message()
                        received = message and self._receive(message)
                        if received:
                            yield received
        finally:
            self._connection = None

    async def _resubscribe(self, connection: PubSub) -> None:
        """Subscribe to all that is watched, and return when everything is confirmed."""
        subscribed: set[UUID] = set()
        while True:
            missing = self._watched - subscribed
            await self._listen(connection, missing)
            # The last channel is confirmed last, and keeps the connection subscribed
            # while nobody watches anything.
            await connection.subscribe(keys.LIVE_ALWAYS)
            await _confirmed(connection, keys.LIVE_ALWAYS)
            subscribed |= missing
            if self._watched <= subscribed:
                break
        self._connection = connection
        for confirmation in self._confirmations.values():
            confirmation.set_result(None)
        self._confirmations.clear()

    def _is_watched(self, channel: bytes) -> bool:
        return keys.job_of_live(channel.decode()) in self._watched

    def _receive(self, message: dict[str, Any]) -> tuple[UUID, Frame] | None:
        job_id = keys.job_of_live(message["channel"].decode())
        if job_id is None:
            return None
        kind = message["type"]
        if kind in _CONFIRMED:
            confirmation = self._confirmations.pop(job_id, None)
            if confirmation is not None:
                confirmation.set_result(None)
            return None
        if kind not in _PUBLISHED:
            return None
        frame = parse_frame(message["data"])
        if frame is None:
            _log.warning("unreadable_frame_dropped", job=str(job_id))
            return None
        return job_id, frame


async def _confirmed(connection: PubSub, channel: str) -> None:
    """Read until a subscription is confirmed; what is published meanwhile is in the streams.

    The limit is on silence: with many channels the confirmations themselves take their time.
    """
    while True:
        message = await connection.get_message(timeout=_CONFIRMED_WITHIN)
        if message is None:
            raise Unavailable("Redis")
        if message["type"] == "subscribe" and message["channel"] == channel.encode():
            return
