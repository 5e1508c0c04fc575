"""One look at everything that is written down, in both servers."""

from asyncio import gather
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
from orjson import loads

from service.domain.events import EventId
from service.domain.job import JsonObject
from service.streams import keys
from service.streams.connection import Client
from service.streams.pending import parse_entry_id
from tests.fixtures.streams import BOTH
from tests.stateful.books import Day
from tests.stateful.virtual_time import whole_seconds

_NO_SUCH_KEY: Final = -2
_NO_EXPIRY: Final = -1
_TIMES: Final = ("available_at", "relay_after", "deadline_at", "lease_until", "completed_at")

# One statement, because this is done after every step.
_ALL: Final = """
SELECT
  (SELECT coalesce(json_agg(j), '[]') FROM (
    SELECT id, status, attempt, error_count, crash_count, handback_count, worker_id, entry_id,
      lease_until, available_at, relay_after, deadline_at, completed_at, final_event_id,
      event_pending, reserved_tokens, result, error
    FROM jobs
  ) AS j) AS jobs,
  (SELECT coalesce(json_agg(c), '[]') FROM (
    SELECT job_id, step, output FROM checkpoints
  ) AS c) AS checkpoints,
  (SELECT coalesce(json_agg(u), '[]') FROM (
    SELECT job_id, attempt, call, day - date '2030-01-01' AS day, ending,
      input_tokens + output_tokens + cache_read_tokens + cache_write_tokens AS tokens,
      cost_usd::text AS cost
    FROM usage_records
  ) AS u) AS ledger,
  (SELECT coalesce(json_agg(d), '[]') FROM (
    SELECT user_id, day - date '2030-01-01' AS day, request_count,
      input_tokens + output_tokens + cache_read_tokens + cache_write_tokens AS tokens,
      cost_usd::text AS cost, unpriced_calls
    FROM daily_usage
  ) AS d) AS days
"""


@dataclass(frozen=True, slots=True)
class Told:
    """One event in a job's stream."""

    id: EventId
    type: str


# Two streams may have entries of the same id.
Entry: TypeAlias = tuple[str, str]


@dataclass
class Observation:
    """Rows by job; entries, and who holds which; events by job, of streams that exist."""

    rows: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[UUID, tuple[JsonObject | None, JsonObject | None]] = field(default_factory=dict)
    checkpoints: dict[UUID, dict[str, str]] = field(default_factory=dict)
    ledger: dict[tuple[UUID, int, int], tuple[Day, str | None, int, Decimal | None]] = field(
        default_factory=dict
    )
    days: dict[tuple[str, Day], tuple[int, int, Decimal, int]] = field(default_factory=dict)
    entries: dict[Entry, UUID] = field(default_factory=dict)
    holders: dict[Entry, str] = field(default_factory=dict)
    coming: set[Entry] = field(default_factory=set)
    events: dict[UUID, list[Told]] = field(default_factory=dict)
    immortal: set[UUID] = field(default_factory=set)

    def ends_with(self, job_id: UUID, final: str | None) -> bool:
        """Whether a job's stream ends with this event."""
        events = self.events.get(job_id)
        return bool(events) and str((events or [])[-1].id) == final


async def observe(
    postgres: "asyncpg.Connection[asyncpg.Record]", redis: Client, jobs: Iterable[UUID]
) -> Observation:
    """Read everything there is about these jobs."""
    seen = Observation()
    await gather(_look_at_postgres(seen, postgres), _look_at_redis(seen, redis, list(jobs)))
    return seen


async def _look_at_postgres(
    seen: Observation, postgres: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    found = await postgres.fetchrow(_ALL)
    assert found is not None
    jobs, checkpoints, ledger, days = (loads(each) for each in found.values())
    for row in jobs:
        row["id"] = UUID(row["id"])
        for name in _TIMES:
            row[name] = row[name] and whole_seconds(row[name])
        seen.outcomes[row["id"]] = (row.pop("result"), row.pop("error"))
        seen.rows[row["id"]] = row
    for row in checkpoints:
        outputs = seen.checkpoints.setdefault(UUID(row["job_id"]), {})
        outputs[row["step"]] = row["output"]["text"]
    for row in ledger:
        key = (UUID(row["job_id"]), row["attempt"], row["call"])
        seen.ledger[key] = (row["day"], row["ending"], row["tokens"], _amount(row["cost"]))
    for row in days:
        seen.days[row["user_id"], row["day"]] = (
            row["request_count"],
            row["tokens"],
            Decimal(row["cost"]),
            row["unpriced_calls"],
        )


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


async def _look_at_redis(seen: Observation, redis: Client, jobs: list[UUID]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for stream in BOTH:
        pipeline.xrange(stream)
        pipeline.xpending_range(stream, keys.GROUP, "-", "+", 10_000)
        pipeline.xinfo_groups(stream)
    for job_id in jobs:
        pipeline.xrange(keys.events(job_id))
        pipeline.pttl(keys.events(job_id))
    replies = await pipeline.execute(raise_on_error=False)
    about_streams, about_jobs = replies[: 3 * len(BOTH)], replies[3 * len(BOTH) :]
    for index, stream in enumerate(BOTH):
        _read_stream(seen, stream, *about_streams[3 * index : 3 * index + 3])
    for index, job_id in enumerate(jobs):
        _read_events(seen, job_id, *about_jobs[2 * index : 2 * index + 2])


def _read_stream(seen: Observation, stream: str, entries: Any, pending: Any, groups: Any) -> None:
    delivered = _last_delivered(groups)
    for entry_id, found in entries:
        entry = (stream, entry_id.decode())
        seen.entries[entry] = UUID(found[b"job"].decode())
        if parse_entry_id(entry[1]) > delivered:
            seen.coming.add(entry)
    for held in [] if isinstance(pending, Exception) else pending:
        seen.holders[stream, held["message_id"].decode()] = held["consumer"].decode()


def _read_events(seen: Observation, job_id: UUID, events: Any, ttl: int) -> None:
    if ttl != _NO_SUCH_KEY:
        seen.events[job_id] = [_told(entry_id, found) for entry_id, found in events]
    if ttl == _NO_EXPIRY:
        seen.immortal.add(job_id)


def _last_delivered(groups: Any) -> tuple[int, int]:
    """How far the group has read; what has no group will be read from the beginning."""
    if isinstance(groups, Exception):
        return (0, 0)
    for group in groups:
        if group["name"] == keys.GROUP.encode():
            return parse_entry_id(group["last-delivered-id"].decode())
    return (0, 0)


def _told(entry_id: bytes, found: Mapping[bytes, bytes]) -> Told:
    event_id = EventId.parse(entry_id.decode())
    assert event_id is not None
    return Told(event_id, found[b"type"].decode())
