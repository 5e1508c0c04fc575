"""A ledger in memory that keeps the port's promises."""

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID

from service.domain.attempt import Checkpoint, Fence
from service.domain.errors import Unavailable
from service.domain.quota import TokenDay
from service.domain.usage import Usage
from service.ports.attempts import CallClosing, CallOpening, Totals


@dataclass
class Row:
    """One call of one attempt."""

    opening: CallOpening
    closing: CallClosing | None = None

    @property
    def ending(self) -> str | None:
        return self.closing.ending if self.closing else None


@dataclass
class MemoryLedger:
    """Survives attempts, like the database; `current` says which attempts may go on.

    `away` calls fail before they take effect, `unheard` ones after it. `opening` holds
    openings back while it is not set; what was sent takes effect even if nobody waits any more.
    """

    current: set[Fence] = field(default_factory=set)
    rows: dict[tuple[Fence, int], Row] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    away: int = 0
    unheard: int = 0
    refuses: Exception | None = None
    day: TokenDay | None = None
    days_read: int = 0
    opening: asyncio.Event = field(default_factory=asyncio.Event)
    _sent: set["asyncio.Task[bool]"] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.opening.set()

    async def open_call(self, opening: CallOpening) -> bool:
        sent = asyncio.create_task(self._open(opening))
        self._sent.add(sent)
        sent.add_done_callback(self._sent.discard)
        return await self._answer(await asyncio.shield(sent))

    async def _open(self, opening: CallOpening) -> bool:
        self._fail_before()
        await self.opening.wait()
        is_current = opening.fence in self.current
        if is_current:
            self.rows.setdefault((opening.fence, opening.call), Row(opening))
            self.log.append(f"open {opening.step}")
        return is_current

    async def close_call(self, closing: CallClosing) -> bool:
        self._fail_before()
        if self.refuses is not None:
            raise self.refuses
        row = self.rows.get((closing.fence, closing.call))
        if row is not None and row.closing is None:
            row.closing = closing
            self.log.append(f"close {row.opening.step} {closing.ending}")
        is_current = closing.fence in self.current
        if is_current and closing.checkpoint is not None:
            self.checkpoints.setdefault(closing.checkpoint.step, closing.checkpoint)
        return await self._answer(is_current)

    async def read_token_day(self, job_id: UUID) -> TokenDay | None:
        self._fail_before()
        self.days_read += 1
        return self.day

    async def totals(self, job_id: UUID) -> Totals:
        closed = [
            row.closing
            for (fence, _), row in self.rows.items()
            if fence.job_id == job_id and row.closing is not None
        ]
        usage = sum((each.usage for each in closed), Usage())
        costs = [each.cost_usd for each in closed]
        cost = None if None in costs else sum((c for c in costs if c is not None), Decimal(0))
        return Totals(usage=usage, cost_usd=cost, models=(), calls=len(closed))

    @property
    def endings(self) -> list[str | None]:
        """How every call ended, in the order of their openings."""
        return [row.ending for row in self.rows.values()]

    def _fail_before(self) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("Postgres")

    async def _answer(self, answer: bool) -> bool:
        if self.unheard:
            self.unheard -= 1
            raise Unavailable("Postgres")
        return answer
