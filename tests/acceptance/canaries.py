"""Secrets that are recognised wherever they turn up, and everything in which they may not."""

import secrets
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import orjson
import redis.asyncio

_ROLE = "usa_canary"
_TABLES = (
    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
)


def canary(what: str) -> str:
    """A text that appears nowhere by chance and that no encoding of URLs changes."""
    return f"canary{what}{secrets.token_hex(12)}"


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """One secret of each kind.

    `api_key` and `other_key` are what follows the prefix of a key, `jwt` the signature of a token.
    """

    api_key: str
    other_key: str
    jwt: str
    database_password: str = field(default_factory=lambda: canary("database"))
    redis_password: str = field(default_factory=lambda: canary("redis"))
    anthropic_key: str = field(default_factory=lambda: canary("anthropic"))
    wrong_anthropic_key: str = field(default_factory=lambda: canary("wronganthropic"))
    collector_key: str = field(default_factory=lambda: canary("collector"))
    story: str = field(default_factory=lambda: canary("story"))
    idempotency_key: str = field(default_factory=lambda: canary("idempotency"))

    def found_in(self, text: str) -> set[str]:
        """The names of those that a text holds."""
        return {name for name, secret in vars(self).items() if secret in text}


@dataclass
class Surfaces:
    """Texts that people and machines get to see, each with the secrets that it may hold."""

    canaries: Canaries
    leaks: list[str] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)

    def look(self, where: str, text: str, may_hold: Collection[str] = ()) -> None:
        """Note each secret that is where it should not be."""
        self.looked_at[where] = self.looked_at.get(where, 0) + len(text)
        for name in self.canaries.found_in(text) - {*may_hold}:
            at = text.index(getattr(self.canaries, name))
            self.leaks.append(f"{name} in {where}: {text[max(0, at - 200) : at + 60]!r}")


@asynccontextmanager
async def login(url: str, password: str) -> AsyncIterator[str]:
    """Yield a Postgres address of a role of its own with this password."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE ROLE {_ROLE} SUPERUSER LOGIN PASSWORD '{password}'")
        split = urlsplit(url)
        host = split.netloc.rpartition("@")[2]
        yield split._replace(netloc=f"{_ROLE}:{password}@{host}").geturl()
    finally:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", _ROLE
        )
        await connection.execute(f"DROP ROLE {_ROLE}")
        await connection.close()


@asynccontextmanager
async def acl_user(url: str, password: str) -> AsyncIterator[str]:
    """Yield the name of a Redis user with this password."""
    async with redis.asyncio.Redis.from_url(url) as client:
        acl: Any = client.execute_command
        await acl("ACL", "SETUSER", _ROLE, "on", f">{password}", "~*", "&*", "+@all")
        try:
            yield _ROLE
        finally:
            await acl("ACL", "DELUSER", _ROLE)


async def redis_texts(url: str) -> Mapping[str, str]:
    """Everything in Redis, by key."""
    async with redis.asyncio.Redis.from_url(url) as client:
        return {key.decode(): repr(await _value(client, key)) async for key in client.scan_iter()}


async def _value(client: Any, key: bytes) -> object:
    match await client.type(key):
        case b"string":
            return await client.get(key)
        case b"hash":
            return await client.hgetall(key)
        case b"list":
            return await client.lrange(key, 0, -1)
        case b"set":
            return await client.smembers(key)
        case b"zset":
            return await client.zrange(key, 0, -1, withscores=True)
        case b"stream":
            return await client.xrange(key), await client.xinfo_groups(key)
        case b"none":  # it has expired since it was listed
            return None
        case kind:
            raise AssertionError(f"nobody looks into a {kind!r}")


async def table_texts(connection: asyncpg.Connection) -> Mapping[str, str]:
    """Everything in Postgres, by table."""
    names = [row["relname"] for row in await connection.fetch(_TABLES)]
    return {
        name: "\n".join(
            row["text"]
            for row in await connection.fetch(f'SELECT t::text AS text FROM "{name}" t')  # noqa: S608 - names of tables of ours
        )
        for name in names
    }


@dataclass
class Caller:
    """Somebody with a key; whatever is answered is looked at."""

    session: aiohttp.ClientSession
    surfaces: Surfaces
    who: str
    key: str
    may_see: frozenset[str]

    async def ask(self, method: str, path: str, **call: Any) -> tuple[int, Any]:
        """Return the status and the document, or the text, that is answered."""
        headers = {"Authorization": f"Bearer {self.key}", **call.pop("headers", {})}
        async with self.session.request(method, path, headers=headers, **call) as response:
            text = await response.text()
            told = "".join(f"{name}: {value}\n" for name, value in response.headers.items())
            self.surfaces.look(f"answers to {self.who}", told + text, self.may_see)
            if response.content_type.endswith("json"):
                return response.status, orjson.loads(text)
            return response.status, text
