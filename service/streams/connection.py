"""Clients with the time limits and retries that each kind of command can bear."""

import re
from asyncio import CancelledError, current_task
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import (
    AskError,
    InvalidResponse,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)
from redis.maint_notifications import MaintNotificationsConfig

from service.domain.errors import Unavailable
from service.domain.redis_addresses import RedisAddress, RedisKind, parse_redis_address
from service.streams.cluster import ClusterClient
from service.streams.sentinels import Sentinels

# That of a cluster has the same commands, and is one only by `as_cluster`.
Client: TypeAlias = Redis

_CONNECT_TIMEOUT = 3.0
_CONNECTIONS = 50

# A command that follows a slot from server to server, and still does not find it, may later on.
_AWAY = (RedisConnectionError, RedisTimeoutError, InvalidResponse, AskError, OSError)
# A primary without replicas may have been cut off from them, and replaced.
_DEMOTED_CODES = frozenset({"READONLY", "MASTERDOWN", "NOREPLICAS"})
# What a server answers that is demoted, full, busy, or cut off from its disk or its replicas.
_AWAY_CODES = _DEMOTED_CODES | {"OOM", "BUSY", "MISCONF", "CLUSTERDOWN", "TRYAGAIN"}
_LOST_CODES = frozenset({"NOGROUP", "UNBLOCKED"})
# Redis 6.2 wraps what a script ran into: "Error running script (...): -OOM command not allowed".
_CODE = re.compile(r"(?:^|: -)([A-Z]+) ")


def once_client(url: str, *, name: str, timeout: float = 3.0) -> Client:
    """Return a client that never repeats a command: for XADD, XREADGROUP and subscriptions.

    `timeout` (seconds) must exceed any BLOCK sent through it.
    """
    return _client(url, name=name, timeout=timeout, retry=Retry(NoBackoff(), 0))


def command_client(url: str, *, name: str, timeout: float = 3.0) -> Client:
    """Return a client that repeats commands: only for those that may run twice without effect."""
    retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 2)
    return _client(url, name=name, timeout=timeout, retry=retry)


def _client(url: str, *, name: str, timeout: float, retry: Retry) -> Client:
    address = parse_redis_address(url)
    given: dict[str, Any] = {**parse_url(address.url)}
    # What the address says about databases, passwords and TLS holds; the rest is not its to say.
    given |= {
        "connection_class": _FOLLOWING[given.pop("connection_class", Connection)],
        "max_connections": _CONNECTIONS,
        "timeout": timeout,
        "client_name": name,
        "driver_info": None,
        "protocol": 3,
        "legacy_responses": False,
        "decode_responses": False,
        "socket_timeout": timeout,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "health_check_interval": 15,
        "retry": retry,
        "retry_on_error": [],
        "retry_on_timeout": False,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    match address.kind:
        case RedisKind.SERVER:
            return _plain(given)
        case RedisKind.SENTINEL:
            return _plain(_through_sentinels(given, address))
        case RedisKind.CLUSTER:
            cluster = ClusterClient(
                address.servers, lambda host, port: _plain({**given, "host": host, "port": port})
            )
            return cast("Client", cluster)


def _plain(options: dict[str, Any]) -> Client:
    return Redis.from_pool(BlockingConnectionPool(**options))


def _through_sentinels(given: dict[str, Any], address: RedisAddress) -> dict[str, Any]:
    login = {"username": address.sentinel_username, "password": address.sentinel_password}
    sentinels = Sentinels(
        address.servers,
        address.service,
        lambda host, port: _plain({**given, **login, "host": host, "port": port, "db": 0}),
    )
    connection_class = _TO_PRIMARY[given["connection_class"]]
    return {**given, "connection_class": connection_class, "sentinels": sentinels}


def as_cluster(client: object) -> ClusterClient | None:
    """Return the client if it is that of a cluster."""
    return client if isinstance(client, ClusterClient) else None


class _FollowsFailover(AbstractConnection):
    """Leaves a server that was demoted: its address may lead to the new primary by now."""

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except ResponseError as error:
            if _codes(error) & _DEMOTED_CODES:
                self.mark_for_reconnect()  # type: ignore[no-untyped-call]
            raise


class _Tcp(_FollowsFailover, Connection):
    pass


class _Tls(_FollowsFailover, SSLConnection):
    pass


class _Unix(_FollowsFailover, UnixDomainSocketConnection):
    pass


_FOLLOWING: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


class _ToPrimary(Connection):
    """Asks where the primary is by now, whenever it connects."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels = sentinels

    async def _connect(self) -> None:
        self.host, self.port = await self._sentinels.primary()
        await super()._connect()  # type: ignore[no-untyped-call]

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        try:
            await super().connect_check_health(*args, **options)
        except RedisError:
            self._sentinels.doubt((self.host, self.port))
            raise

    def mark_for_reconnect(self) -> None:
        super().mark_for_reconnect()  # type: ignore[no-untyped-call]
        self._sentinels.doubt((self.host, self.port))


class _PrimaryTcp(_ToPrimary, _Tcp):
    pass


class _PrimaryTls(_ToPrimary, _Tls):
    pass


_TO_PRIMARY: dict[type[AbstractConnection], type[AbstractConnection]] = {
    _Tcp: _PrimaryTcp,
    _Tls: _PrimaryTls,
}


@contextmanager
def redis_errors() -> Iterator[None]:
    """Translate what a driver raises when the server is away, full or demoted."""
    try:
        yield
    except Exception as error:
        task = current_task()
        if task is not None and task.cancelling():
            # Closing a connection on the way out may fail, and must not undo the cancellation.
            raise CancelledError from error
        translated = translate(error)
        if translated is error:
            raise
        raise translated from error


def translate(error: Exception) -> Exception:
    """Return `Unavailable` for an error that passes by itself, and any other as it is.

    Meant for the errors that a pipeline returns among its replies.
    """
    is_refusal = isinstance(error, ResponseError) and _codes(error) & _AWAY_CODES
    if not is_refusal and not isinstance(error, _AWAY):
        return error
    unavailable = Unavailable("Redis")
    unavailable.__cause__ = error
    return unavailable


def is_missing_group(error: RedisError) -> bool:
    """Whether the streams or their group are gone, as after FLUSHALL."""
    return isinstance(error, ResponseError) and (
        bool(_codes(error) & _LOST_CODES) or "no longer exists" in str(error)
    )


def _codes(error: ResponseError) -> set[str]:
    return {error.status_code or "", *_CODE.findall(str(error))}
