"""What was used and what remains, as the API shows it; days end at midnight UTC."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Self

from service.api.documents import Document, TokenUsage
from service.domain.tiers import Tier
from service.ports.usage import DayUsage, TodaysUsage


class DayUsageDocument(Document):
    """What was used on one day."""

    day: date
    """The day, in UTC."""
    requests: int
    """Jobs that were accepted."""
    token_usage: TokenUsage
    cost_usd: float
    """Without the calls whose price is unknown: see `unpricedCalls`."""
    unpriced_calls: int
    """Model calls whose price is unknown, and which `costUsd` leaves out."""

    @classmethod
    def of(cls, used: DayUsage) -> Self:
        """Show a day."""
        return cls(**_day(used))


class UsageDocument(DayUsageDocument):
    """What was used today, and what is still reserved."""

    reserved_tokens: int
    """What the jobs submitted today that have not ended may still use."""
    active_jobs: int
    """Jobs that are queued or processing."""

    @classmethod
    def of_today(cls, used: TodaysUsage) -> Self:
        """Show today."""
        return cls(**_day(used), reserved_tokens=used.reserved_tokens, active_jobs=used.active_jobs)


def _day(used: DayUsage) -> dict[str, Any]:
    return {
        "day": used.day,
        "requests": used.requests,
        "token_usage": TokenUsage.of(used.usage),
        "cost_usd": float(used.cost_usd),
        "unpriced_calls": used.unpriced_calls,
    }


class UsageHistory(Document):
    """One entry for every day, newest first, also for those without use."""

    days: list[DayUsageDocument]


class DailyLimit(Document):
    """A limit per day, and what remains of it."""

    limit: int | None
    """Null: no limit."""
    used: int
    reserved: int
    """What jobs that have not ended may still use."""
    remaining: int | None
    """Null: no limit."""
    resets_at: datetime
    """The next midnight, UTC."""


class JobLimit(Document):
    """A limit on the jobs that are queued or processing, and what remains of it."""

    limit: int | None
    """Null: no limit."""
    used: int
    remaining: int | None
    """Null: no limit."""


class QuotaDocument(Document):
    """The caller's limits, and what remains of them; null means no limit."""

    tier: str
    requests_per_day: DailyLimit
    tokens_per_day: DailyLimit
    """Input, output and what the cache read or wrote."""
    concurrent_jobs: JobLimit
    requests_per_minute: int | None
    """What remains of it is in the header `RateLimit` of each answer."""
    reads_per_minute: int | None
    """Counted per key."""
    open_streams: int | None
    open_waits: int | None
    story_bytes: int
    iterations_per_job: int

    @classmethod
    def of(cls, tier: Tier, used: TodaysUsage) -> Self:
        """Show what remains of a tier's limits."""
        midnight = datetime.combine(used.day + timedelta(days=1), time.min, UTC)
        return cls(
            tier=tier.name,
            requests_per_day=_daily(tier.requests_per_day, used.requests, 0, midnight),
            tokens_per_day=_daily(
                tier.tokens_per_day, used.usage.total, used.reserved_tokens, midnight
            ),
            concurrent_jobs=JobLimit(
                limit=tier.concurrent_jobs,
                used=used.active_jobs,
                remaining=_remaining(tier.concurrent_jobs, used.active_jobs),
            ),
            requests_per_minute=tier.requests_per_minute,
            reads_per_minute=tier.reads_per_minute,
            open_streams=tier.open_streams,
            open_waits=tier.open_waits,
            story_bytes=tier.story_bytes,
            iterations_per_job=tier.iterations_per_job,
        )


def _daily(limit: int | None, used: int, reserved: int, midnight: datetime) -> DailyLimit:
    remaining = _remaining(limit, used + reserved)
    return DailyLimit(
        limit=limit, used=used, reserved=reserved, remaining=remaining, resets_at=midnight
    )


def _remaining(limit: int | None, taken: int) -> int | None:
    return None if limit is None else max(0, limit - taken)
