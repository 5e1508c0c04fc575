"""What a checkup finds, and what the facts about a server mean."""

import re
from dataclasses import dataclass
from enum import StrEnum

from service.domain.job import JsonObject

_OLDEST_REDIS = (6, 2)
# The first whose shards publish to their own subscribers.
_OLDEST_CLUSTER = (7, 0)


class Health(StrEnum):
    """How a checked thing is; only what has failed keeps the service from working."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to, and what to do next unless all is well."""

    check: str
    health: Health
    message: str
    advice: str | None = None

    @classmethod
    def ok(cls, check: str, message: str) -> "Finding":
        """All is well."""
        return cls(check, Health.OK, message)

    @classmethod
    def warning(cls, check: str, message: str, advice: str) -> "Finding":
        """It works, and something is to be done all the same."""
        return cls(check, Health.WARNING, message, advice)

    @classmethod
    def failed(cls, check: str, message: str, advice: str) -> "Finding":
        """It does not work."""
        return cls(check, Health.FAILED, message, advice)

    def as_json(self) -> JsonObject:
        """`{check, status, message, advice}`."""
        return {
            "check": self.check,
            "status": self.health.value,
            "message": self.message,
            "advice": self.advice,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """What a Redis or Valkey says of itself; `version` is the Redis version that it speaks.

    `shards` is 0 where there is no cluster.
    """

    product: str
    version: str
    eviction: str
    is_append_only: bool
    missing_groups: tuple[str, ...]
    shards: int = 0


def judge_redis(facts: RedisFacts) -> list[Finding]:
    """Say what the service needs of Redis and does not find there."""
    return [_version(facts), _memory(facts), _persistence(facts), _groups(facts)]


def _version(facts: RedisFacts) -> Finding:
    needed = _OLDEST_CLUSTER if facts.shards else _OLDEST_REDIS
    shape = f" as a cluster of {facts.shards} shards" if facts.shards else ""
    if tuple(map(int, re.findall(r"\d+", facts.version)[:2])) >= needed:
        return Finding.ok("redis", f"{facts.product} answers{shape}")
    oldest = ".".join(map(str, needed))
    return Finding.failed("redis", f"{facts.product} is too old{shape}", f"use {oldest} or later")


def _memory(facts: RedisFacts) -> Finding:
    message = f"maxmemory-policy is {facts.eviction}"
    if facts.eviction == "noeviction":
        return Finding.ok("redis memory", message)
    advice = "set it to noeviction: what is evicted delays jobs and cuts streams"
    return Finding.warning("redis memory", message, advice)


def _persistence(facts: RedisFacts) -> Finding:
    if facts.is_append_only:
        return Finding.ok("redis persistence", "appendonly is yes")
    advice = "set it to yes: else a restart of Redis delays queued jobs and loses live events"
    return Finding.warning("redis persistence", "appendonly is no", advice)


def _groups(facts: RedisFacts) -> Finding:
    if not facts.missing_groups:
        return Finding.ok("job streams", "the streams and their consumer group are there")
    message = f"no consumer group on {' and '.join(facts.missing_groups)}"
    advice = "start `usa api` or `usa worker`, which create it"
    return Finding.warning("job streams", message, advice)


def judge_schema(pending: list[str]) -> Finding:
    """Say whether the database has every migration."""
    if not pending:
        return Finding.ok("schema", "every migration is applied")
    message = f"migrations are missing: {', '.join(pending)}"
    return Finding.failed("schema", message, "run `usa migrate`")
