"""Cancellation nudges over pub/sub; a lost one costs only time, the renewal finds out."""

from collections.abc import Callable
from uuid import UUID

from service.domain.errors import Unavailable
from service.streams import keys
from service.streams.connection import Client, redis_errors
from service.streams.outages import Outage, pause_before_reconnecting
from service.streams.subscription import Subscription
from service.telemetry.logs import get_log

_log = get_log(__name__)


class RedisNudges:
    """Sends and hears cancellations."""

    def __init__(self, commands: Client, once: Client) -> None:
        self._commands = commands
        self._once = once

    async def cancel(self, job_id: UUID) -> None:
        """Tell whoever runs the job that it was cancelled."""
        with redis_errors():
            await self._commands.publish(keys.CANCELLATIONS, str(job_id))

    async def listen(self, on_cancel: Callable[[UUID], None]) -> None:
        """Hear cancellations until this task is cancelled, reconnecting as often as needed."""
        outage = Outage("nudges")
        while True:
            try:
                with redis_errors():
                    async with self._once.pubsub(ignore_subscribe_messages=True) as connection:
                        await connection.subscribe(keys.CANCELLATIONS)
                        outage.is_over()
                        await _hear(Subscription(connection), on_cancel)
            except Unavailable as error:
                outage.lasts(error)
                await pause_before_reconnecting()


async def _hear(subscription: Subscription, on_cancel: Callable[[UUID], None]) -> None:
    while True:
        message = await subscription.next_message()
        if message is None:
            continue
        try:
            job_id = UUID(message["data"].decode())
        except ValueError:
            _log.warning("unreadable_nudge_dropped")
            continue
        on_cancel(job_id)
