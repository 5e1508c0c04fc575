"""A client of a Redis Cluster: each command goes to the server that has its key's slot."""

import random
from asyncio import Lock, gather
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.commands import AsyncCoreCommands
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.event import EventDispatcher
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.streams import keys

Server = tuple[str, int]
Command = tuple[tuple[Any, ...], dict[str, Any]]

_MOST_REDIRECTIONS = 5
# Where a script's first key is, after its name or text and the number of its keys.
_SCRIPTS = {"EVAL": 3, "EVALSHA": 3}
_LOST = (RedisConnectionError, RedisTimeoutError, ClusterDownError, OSError)


class _Nobodys(RedisConnectionError):
    """A slot has no server, which concerns the commands of this slot alone."""


class _Commands(AsyncCoreCommands):
    """The methods of redis-py that send commands: all of them end in `execute_command`."""

    _event_dispatcher = EventDispatcher()


class ClusterClient(_Commands):
    """One plain client per server, made by `client_at`, so that trouble with one is no other's.

    redis-py's own cluster client closes the connections to all servers when one is away, fails
    where a plain one waits for a connection, and repeats commands by rules of its own. Here a
    command is sent again only if a server said that it did not run it. What has no key goes to
    the server of the job streams.
    """

    def __init__(self, seeds: Sequence[Server], client_at: Callable[[str, int], Redis]) -> None:
        self._seeds = tuple(seeds)
        self._client_at = client_at
        self._clients: dict[Server, Redis] = {}
        self._owners: list[Server | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._suspects: set[Server] = set()
        self._is_stale = True
        self._learned = 0
        self._learning = Lock()

    @property
    def servers(self) -> set[Server]:
        """The servers that have slots, as far as is known."""
        return {owner for owner in self._owners if owner is not None}

    @property
    def clients(self) -> Collection[Redis]:
        """Return the clients of all servers that were asked so far."""
        return self._clients.values()

    def server_of(self, key: str) -> Server | None:
        """Return who has a key, or a channel of a shard, as far as is known."""
        return self._owners[key_slot(key.encode())]

    def client_of(self, server: Server) -> Redis:
        """Return the client of one server; it is closed with this one."""
        if server not in self._clients:
            self._clients[server] = self._client_at(*server)
        return self._clients[server]

    async def learn(self) -> None:
        """Ask who has which slots; raises redis-py's `ConnectionError` if nobody tells."""
        before = self._learned
        async with self._learning:
            if self._learned == before:
                self._owners = await self._ask_for_owners()
                self._is_stale = False
                self._learned += 1

    async def _ask_for_owners(self) -> list[Server | None]:
        failures: list[str] = []
        for server in self._informants():
            try:
                ranges = await _plainly(self.client_of(server), "CLUSTER SLOTS")
            except (RedisError, OSError) as error:
                failures.append(f"{server[0]}:{server[1]} {error}")
                self._suspects.add(server)
                continue
            if ranges:
                self._suspects.discard(server)
                return _owners(ranges, server[0])
            failures.append(f"{server[0]}:{server[1]} knows of no slots")
        raise RedisConnectionError(f"no server knows the cluster: {'; '.join(failures)}")

    def _informants(self) -> list[Server]:
        """Return whom to ask, those that failed last; addresses of pods may all be new."""
        known = self.servers
        asked = random.sample(sorted(known), len(known))
        asked += [seed for seed in self._seeds if seed not in known]
        return sorted(asked, key=lambda server: server in self._suspects)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command where its key is, following it if it has moved."""
        slot = _slot(args)
        for _ in range(_MOST_REDIRECTIONS):
            server = await self._owner(slot)
            try:
                return await self._run(server, args, options)
            except MovedError as error:
                self._owners[slot] = _named(error, server)
            except AskError as error:
                return await self._ask(_named(error, server), args, options)
        raise RedisConnectionError(f"the servers disagree about slot {slot}")

    async def _owner(self, slot: int) -> Server:
        if self._is_stale:
            await self.learn()
        owner = self._owners[slot]
        if owner is None:
            self._is_stale = True
            raise _Nobodys(f"no server has slot {slot}")
        return owner

    async def _run(self, server: Server, args: Sequence[Any], options: dict[str, Any]) -> Any:
        try:
            return await _plainly(self.client_of(server), *args, **options)
        except _LOST:
            self._doubt(server)
            raise

    def _doubt(self, server: Server) -> None:
        self._suspects.add(server)
        self._is_stale = True

    async def _ask(self, server: Server, args: Sequence[Any], options: dict[str, Any]) -> Any:
        """Run a command on a server that has its key already and its slot not yet."""
        pipeline = self.client_of(server).pipeline(transaction=False)
        pipeline.execute_command("ASKING")
        pipeline.execute_command(*args, **options)
        _, reply = await pipeline.execute()
        return reply

    def pipeline(self, *, transaction: bool) -> "ClusterPipeline":
        """Return what collects commands; there are no transactions over several servers."""
        if transaction:
            raise ValueError("servers of a cluster share no transaction")
        return ClusterPipeline(self)

    async def run_all(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands, those of one server together; returns replies or errors, in order."""
        by_server: dict[Server, list[int]] = defaultdict(list)
        replies: list[Any] = [None] * len(commands)
        for number, (args, _) in enumerate(commands):
            try:
                by_server[await self._owner(_slot(args))].append(number)
            except _Nobodys as error:
                replies[number] = error

        async def run_on(server: Server, numbers: Sequence[int]) -> None:
            found = await self._run_together(server, [commands[number] for number in numbers])
            for number, reply in zip(numbers, found, strict=True):
                replies[number] = reply

        await gather(*(run_on(server, numbers) for server, numbers in by_server.items()))
        return replies

    async def _run_together(self, server: Server, commands: Sequence[Command]) -> list[Any]:
        pipeline = self.client_of(server).pipeline(transaction=False)
        for args, options in commands:
            pipeline.execute_command(*args, **options)
        try:
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        except _LOST as error:
            self._doubt(server)
            return [error] * len(commands)
        if any(isinstance(reply, ClusterDownError) for reply in replies):
            self._doubt(server)
        return [
            await self._followed(command) if isinstance(reply, AskError) else reply
            for command, reply in zip(commands, replies, strict=True)
        ]

    async def _followed(self, command: Command) -> Any:
        """Run a command again that was sent to the wrong server, and so did not run."""
        args, options = command
        try:
            return await self.execute_command(*args, **options)
        except (RedisError, OSError) as error:
            return error

    def pubsub(self, **options: Any) -> PubSub:
        """Subscribe to channels of the whole cluster, at any one server."""
        server = random.choice(sorted(self.servers) or self._seeds)  # noqa: S311 - no secret
        return self.client_of(server).pubsub(**options)

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()


class ClusterPipeline(_Commands):
    """Commands to be sent together."""

    def __init__(self, cluster: ClusterClient) -> None:
        self._cluster = cluster
        self._commands: list[Command] = []

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Add a command."""
        self._commands.append((args, options))
        return self

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        """Return what each command came to: a server that is away concerns only its own."""
        if raise_on_error:
            raise ValueError("each command has an error of its own")
        return await self._cluster.run_all(self._commands)


async def _plainly(client: Any, *args: Any, **options: Any) -> Any:
    return await client.execute_command(*args, **options)


def _slot(args: Sequence[Any]) -> int:
    command = args[0]
    if command == "XREADGROUP":
        key = args[list(args).index(b"STREAMS") + 1]
    else:
        place = _SCRIPTS.get(command, 1)
        key = args[place] if len(args) > place else keys.JOBS
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def _owners(ranges: Any, asked: str) -> list[Server | None]:
    owners: list[Server | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    for first, last, (host, port, *_), *_ in ranges:
        # A server that does not know its own name is where it was asked.
        owner = ((host or b"").decode().replace("?", "") or asked, port)
        owners[first : last + 1] = [owner] * (last - first + 1)
    return owners


def _named(error: AskError, server: Server) -> Server:
    return error.host or server[0], error.port
