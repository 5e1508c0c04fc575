"""Sentinels: they know which server is the primary of a service by now."""

from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

Server = tuple[str, int]


class Sentinels:
    """Asks one Sentinel after the other, the one that answered last first.

    One that is cut off from the others goes on telling of a primary that has long been replaced:
    it is asked last once what it told is doubted.

    `sentinel_at` makes a client of a Sentinel, which is closed after each question: one is
    asked before every new connection to the primary, and there are few of those.
    """

    def __init__(
        self, servers: Sequence[Server], service: str, sentinel_at: Callable[[str, int], Redis]
    ) -> None:
        self._servers = list(servers)
        self._service = service
        self._sentinel_at = sentinel_at
        self._told_by: dict[Server, Server] = {}

    async def primary(self) -> Server:
        """Return where the primary is; raises redis-py's `ConnectionError` if nobody knows."""
        failures: list[str] = []
        for server in tuple(self._servers):
            try:
                found = await self._ask(server)
            except (RedisError, OSError) as error:
                failures.append(f"{server[0]}:{server[1]} {error}")
                continue
            if found is None:
                failures.append(f"{server[0]}:{server[1]} does not know {self._service}")
                continue
            self._servers.remove(server)
            self._servers.insert(0, server)
            self._told_by[found] = server
            return found
        raise RedisConnectionError(f"no Sentinel tells the primary: {'; '.join(failures)}")

    def doubt(self, primary: Server) -> None:
        """Believe the others first from now on: this one is away, or no primary."""
        told_by = self._told_by.pop(primary, None)
        if told_by is not None:
            self._servers.remove(told_by)
            self._servers.append(told_by)

    async def _ask(self, server: Server) -> Server | None:
        client = self._sentinel_at(*server)
        try:
            found: Any = await client.sentinel_get_master_addr_by_name(self._service)
        finally:
            await client.aclose()
        return (found[0].decode(), found[1]) if found else None
