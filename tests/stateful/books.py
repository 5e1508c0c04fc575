"""What the ledger and the daily totals should say."""

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

from service.domain.attempt import Fence
from service.domain.job import Owner
from service.domain.usage import Usage
from service.ports.attempts import CallClosing, CallOpening

Day: TypeAlias = int


@dataclass
class Call:
    """One row of the ledger; the day is counted from the beginning."""

    owner: Owner
    day: Day
    expected: Usage
    expected_cost: Decimal | None
    ending: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Decimal | None = None


@dataclass
class Books:
    """The ledger by job, attempt and call, and who submitted how much on which day."""

    calls: dict[tuple[Fence, int], Call] = field(default_factory=dict)
    requests: defaultdict[tuple[Owner, Day], int] = field(default_factory=lambda: defaultdict(int))

    def open(self, opening: CallOpening, day: Day) -> bool:
        """A call is about to be made; returns whether that is news."""
        key = (opening.fence, opening.call)
        if key in self.calls:
            return False
        expected = Usage(input=opening.estimated_input)
        self.calls[key] = Call(opening.owner, day, expected, opening.estimated_cost_usd)
        return True

    def close(self, closing: CallClosing) -> int | None:
        """A call ended; returns how many more tokens that makes, None if it is not news."""
        call = self.calls.get((closing.fence, closing.call))
        if call is None or call.ending not in {None, "abandoned"}:
            return None
        more = closing.usage.total - call.usage.total
        call.ending, call.usage, call.cost = closing.ending, closing.usage, closing.cost_usd
        return more

    def left_open(self, job_id: UUID, before: int | None = None) -> list[Call]:
        """The calls of a job that nobody has closed, of the attempts before one."""
        return [
            call
            for (fence, _), call in self.calls.items()
            if fence.job_id == job_id
            and call.ending is None
            and (before is None or fence.attempt < before)
        ]

    def abandon(self, job_id: UUID, before: int | None = None) -> int:
        """Write off what was left open, by what it certainly read; returns how many."""
        abandoned = self.left_open(job_id, before)
        for call in abandoned:
            call.ending, call.usage, call.cost = "abandoned", call.expected, call.expected_cost
        return len(abandoned)

    def of_job(self, job_id: UUID) -> list[Call]:
        """The closed calls of a job."""
        return [
            call
            for (fence, _), call in self.calls.items()
            if fence.job_id == job_id and call.ending is not None
        ]

    def days(self) -> dict[tuple[str, Day], tuple[int, int, Decimal, int]]:
        """By user and day: requests, tokens, cost, and calls without a price."""
        totals: defaultdict[tuple[str, Day], list[Call]] = defaultdict(list)
        for call in self.calls.values():
            if call.ending is not None:
                totals[call.owner.user_id, call.day].append(call)
        return {
            (user, day): (
                sum(n for (o, d), n in self.requests.items() if (o.user_id, d) == (user, day)),
                sum(call.usage.total for call in totals[user, day]),
                sum((call.cost or Decimal(0) for call in totals[user, day]), Decimal(0)),
                sum(call.cost is None for call in totals[user, day]),
            )
            for user, day in {*totals, *((o.user_id, d) for o, d in self.requests)}
        }
