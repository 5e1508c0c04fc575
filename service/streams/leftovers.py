"""What workers that died, or were interfered with, leave in the job streams and their group."""

from redis.exceptions import ResponseError

from service.streams import keys, scripts
from service.streams.connection import Client, is_missing_group, redis_errors

_STREAMS = (keys.AGAIN, keys.JOBS)
_PAGE = 100
_MOST_PAGES = 100


class RedisLeftovers:
    """Takes away only what is nobody's, as decided inside Redis in the moment it goes.

    `client` may repeat commands: what is gone already is not there to be taken away.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def remove_dead_consumers(self, idle: float) -> int:
        """Remove consumers without a pending entry, silent for so many seconds.

        One that is alive after all loses nothing: it is made anew when it is given an entry.
        """
        idle_ms = int(idle * 1000)
        with redis_errors():
            return sum([await self._remove_from(stream, idle_ms) for stream in _STREAMS])

    async def _remove_from(self, stream: str, idle_ms: int) -> int:
        removed = 0
        for name in await self._silent(stream, idle_ms):
            removed += await scripts.remove_consumer_if_idle(
                self._client, stream=stream, group=keys.GROUP, idle_ms=idle_ms, consumer=name
            )
        return removed

    async def _silent(self, stream: str, idle_ms: int) -> list[bytes]:
        try:
            consumers = await self._client.xinfo_consumers(stream, keys.GROUP)
        except ResponseError as error:
            if is_missing_group(error) or "no such key" in str(error):
                return []
            raise
        return [each["name"] for each in consumers if each["idle"] >= idle_ms]

    async def delete_stray_entries(self) -> int:
        """Delete entries that were delivered and are pending for nobody.

        As after an operator's DELCONSUMER. Their jobs are recovered by what their rows say.
        """
        with redis_errors():
            return sum([await self._delete_from(stream) for stream in _STREAMS])

    async def _delete_from(self, stream: str) -> int:
        deleted, after = 0, "0-0"
        for _ in range(_MOST_PAGES):
            number, last = await scripts.delete_stray_entries(
                self._client, stream=stream, group=keys.GROUP, after=after, count=_PAGE
            )
            deleted += number
            if not last:
                break
            after = last.decode()
        return deleted
