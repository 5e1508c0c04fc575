"""Reads a subscription, and notices when the server behind it has fallen silent."""

from asyncio import CancelledError, current_task
from time import monotonic
from typing import Any

from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

_WAIT = 1.0


class Subscription:
    """A subscription that fails after `silence` seconds (at least 2) without any answer.

    Nothing is expected on a subscription, so a frozen server or a cut cable looks like peace;
    the system would notice after many minutes, or never.
    """

    def __init__(self, connection: PubSub, *, silence: float = 3.0) -> None:
        self._connection = connection
        self._silence = silence
        self._heard_at = monotonic()

    async def next_message(self) -> dict[str, Any] | None:
        """Return the next message, or None after a second without one."""
        task = current_task()
        if task is not None and task.cancelling():
            # Up to Python 3.11, a write that ends in the same moment swallows a cancellation.
            raise CancelledError
        message: dict[str, Any] | None = await self._connection.get_message(timeout=_WAIT)
        if message is not None:
            self._heard_at = monotonic()
            return None if message["type"] == "pong" else message
        if monotonic() - self._heard_at > self._silence:
            raise RedisConnectionError("the subscription has fallen silent")
        await self._connection.ping()
        return None
