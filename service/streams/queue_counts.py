"""How many entries the job streams hold, read without changing anything."""

from typing import Any

from redis.exceptions import ResponseError

from service.ports.queue_control import StreamCounts
from service.streams import keys
from service.streams.connection import Client, redis_errors


class RedisStreamCounter:
    """Counts entries, those delivered to nobody yet, those pending, and consumers."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def count_entries(self) -> list[StreamCounts]:
        """Describe each job stream, that which is read first first."""
        with redis_errors():
            return [await self._count(stream) for stream in (keys.AGAIN, keys.JOBS)]

    async def _count(self, stream: str) -> StreamCounts:
        entries = await self._client.xlen(stream)
        group = await self._group(stream)
        # Redis before 7 does not tell the lag, and later ones not after some deletions.
        return StreamCounts(
            stream=stream,
            entries=entries,
            lag=group.get("lag"),
            pending=group.get("pending", 0),
            consumers=group.get("consumers", 0),
        )

    async def _group(self, stream: str) -> dict[str, Any]:
        try:
            groups = await self._client.xinfo_groups(stream)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return {}
        return next((group for group in groups if group["name"] == keys.GROUP.encode()), {})
