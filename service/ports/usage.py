"""What owners have used, by day; days begin and end at midnight UTC."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Protocol

from service.domain.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUsage:
    """What was used on a day; `cost_usd` leaves out the calls whose price is unknown."""

    day: date
    requests: int
    usage: Usage
    cost_usd: Decimal
    unpriced_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TodaysUsage(DayUsage):
    """What was used today, and what the jobs that have not ended still reserve of it."""

    reserved_tokens: int
    active_jobs: int


class UsageStore(Protocol):
    """Sums of an owner; `user_id` None means the whole tenant."""

    async def today(self, tenant_id: str, user_id: str | None) -> TodaysUsage:
        """Read today's use and reservations, as of one moment."""
        ...

    async def daily(self, tenant_id: str, user_id: str | None, days: int) -> list[DayUsage]:
        """Read the use of so many days, today's first, those without any included."""
        ...
