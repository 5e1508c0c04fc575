"""Addresses of Redis: one server, what Sentinels watch, or a cluster."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

REDIS_SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
SENTINEL_PASSWORD: Final = "sentinel_password"  # noqa: S105 - the name of a parameter
_SENTINEL_USERNAME: Final = "sentinel_username"
_PORT = 6379
_SENTINEL_PORT = 26379

Server = tuple[str, int]


class RedisKind(StrEnum):
    """What answers at an address."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """An address taken apart; `url` is what a driver reads, of one server.

    `servers` are those that know the way: Sentinels, or any servers of a cluster.
    """

    kind: RedisKind
    url: str = field(repr=False)
    servers: tuple[Server, ...] = ()
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)


def parse_redis_address(text: str) -> RedisAddress:
    """Take an address apart; raises `ValueError`, which never repeats the text."""
    try:
        parts = urlsplit(text)
    except ValueError:  # which may quote a password
        raise ValueError("it has no valid host and port") from None
    scheme, _, kind = parts.scheme.partition("+")
    match kind:
        case "sentinel":
            return _of_sentinels(scheme, parts)
        case "cluster":
            return _of_cluster(scheme, parts)
        case _:
            if "," in parts.netloc.rpartition("@")[2]:
                raise ValueError("only redis+sentinel:// and redis+cluster:// have several hosts")
            return RedisAddress(kind=RedisKind.SERVER, url=text)


def _of_sentinels(scheme: str, parts: SplitResult) -> RedisAddress:
    service, _, database = parts.path.removeprefix("/").partition("/")
    if not service or not (database or "0").isdecimal():
        raise ValueError("after the Sentinels it must name /service or /service/database")
    options = dict(parse_qsl(parts.query))
    username = options.pop(_SENTINEL_USERNAME, None)
    password = options.pop(SENTINEL_PASSWORD, None)
    servers = _servers(parts, _SENTINEL_PORT)
    return RedisAddress(
        kind=RedisKind.SENTINEL,
        url=_url(scheme, parts, servers[0], f"/{database}", options),
        servers=servers,
        service=unquote(service),
        sentinel_username=username,
        sentinel_password=password,
    )


def _of_cluster(scheme: str, parts: SplitResult) -> RedisAddress:
    options = dict(parse_qsl(parts.query))
    if parts.path not in ("", "/", "/0") or options.get("db", "0") != "0":
        raise ValueError("a cluster has no database but 0")
    servers = _servers(parts, _PORT)
    return RedisAddress(
        kind=RedisKind.CLUSTER,
        url=_url(scheme, parts, servers[0], "", options),
        servers=servers,
    )


def _servers(parts: SplitResult, default_port: int) -> tuple[Server, ...]:
    user, _, hosts = parts.netloc.rpartition("@")
    if "@" in user:
        raise ValueError("user and password stand once, before all hosts, an @ in them as %40")
    return tuple(_server(host, default_port) for host in hosts.split(","))


def _server(text: str, default_port: int) -> Server:
    try:
        one = urlsplit(f"//{text}")
        host, port = one.hostname, one.port
    except ValueError:
        raise ValueError("it has no valid host and port") from None
    if not host:
        raise ValueError("each of its hosts must have a name")
    return host, port or default_port


def _url(
    scheme: str, parts: SplitResult, server: Server, path: str, options: dict[str, str]
) -> str:
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{server[0]}]" if ":" in server[0] else server[0]
    netloc = f"{user}{at}{host}:{server[1]}"
    return SplitResult(scheme, netloc, path, urlencode(options), "").geturl()
