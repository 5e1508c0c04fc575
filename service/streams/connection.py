"""Clients with the time limits and retries that each kind of command can bear."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
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

Client: TypeAlias = Redis

_CONNECT_TIMEOUT = 3.0
_AWAY = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    OSError,
)


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
    return Redis.from_url(
        url,
        client_name=name,
        protocol=3,
        legacy_responses=False,
        socket_timeout=timeout,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        health_check_interval=15,
        retry=retry,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )


@contextmanager
def redis_errors() -> Iterator[None]:
    """Translate what a driver raises when the server is away, full or demoted."""
    try:
        yield
    except _AWAY as error:
        raise Unavailable("Redis") from error


def is_missing_group(error: RedisError) -> bool:
    """Whether the streams or their group are gone, as after FLUSHALL."""
    text = str(error)
    return isinstance(error, ResponseError) and (
        text.startswith(("NOGROUP", "UNBLOCKED")) or "no longer exists" in text
    )
