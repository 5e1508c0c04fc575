"""One row per model call, opened before the call is made and closed however it ends."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from asyncpg import Record

from service.domain.attempt import Fence
from service.domain.quota import TokenDay
from service.group_commit import GroupCommit
from service.ports.attempts import CallClosing, CallOpening, Totals
from service.postgres.batches import array_statement
from service.postgres.pool import Database
from service.postgres.rows import totals_from
from service.postgres.spending import count_spending
from service.postgres.storable import to_json, to_text
from service.supervision import Background
from service.telemetry.metrics import CALLS_REPEATED


class PostgresUsageLedger:
    """The ledger; a finished call's row and its checkpoint are one transaction."""

    def __init__(self, database: Database, background: Background) -> None:
        self._database = database
        self._open: GroupCommit[CallOpening, bool] = GroupCommit(
            "open_call",
            array_statement(database, "open_calls_if_current", _opening_row, _read_opening),
            background,
        )
        self._close: GroupCommit[CallClosing, bool] = GroupCommit(
            "close_call",
            array_statement(database, "close_calls", _closing_row, _read_closing),
            background,
        )

    async def open_call(self, opening: CallOpening) -> bool:
        """Write the row down, unless the attempt is no longer current (False)."""
        return await self._open.submit(opening)

    async def close_call(self, closing: CallClosing) -> bool:
        """Book the usage always, and keep the checkpoint if the attempt is current."""
        return await self._close.submit(closing)

    async def totals(self, job_id: UUID) -> Totals:
        """Sum up a job's ledger."""
        row = await self._database.fetch_one("sum_ledger", job_id)
        if row is None:
            raise AssertionError("an aggregate always answers one row")
        return totals_from(row)

    async def read_token_day(self, job_id: UUID) -> TokenDay | None:
        """Read how the day's tokens of the job's owner stand; None if nothing limits them."""
        row = await self._database.fetch_one("read_token_day", job_id)
        return TokenDay(**row) if row else None


async def abandon_calls(database: Database, fences: Sequence[Fence]) -> int:
    """Write off the calls that attempts before these left open, by what they certainly read."""
    if not fences:
        return 0
    rows = await database.fetch(
        "abandon_calls",
        [fence.job_id for fence in fences],
        [fence.attempt for fence in fences],
    )
    for row in rows:
        count_spending(row, wasted="abandoned")
    return sum(row["calls"] for row in rows)


# Counted as the answers are read: whoever sent a call's opening or closing may be gone by then.


def _read_opening(row: Record) -> bool:
    CALLS_REPEATED.inc(int(row["repeated"]))
    return bool(row["current"])


def _read_closing(row: Record) -> bool:
    count_spending(row, wasted=_why_wasted(row))
    return bool(row["current"])


def _why_wasted(closed: Record) -> str | None:
    """Say why nobody has anything of a call; None for one whose output is kept."""
    if closed["ending"] != "finished":
        return str(closed["ending"])
    return None if closed["current"] else "fenced"


def _opening_row(opening: CallOpening) -> Sequence[Any]:
    return (
        opening.fence.job_id,
        opening.fence.attempt,
        opening.call,
        opening.owner.tenant_id,
        opening.owner.user_id,
        opening.step,
        opening.model,
        opening.estimated_input,
        opening.estimated_cost_usd,
    )


def _closing_row(closing: CallClosing) -> Sequence[Any]:
    usage, checkpoint = closing.usage, closing.checkpoint
    return (
        closing.fence.job_id,
        closing.fence.attempt,
        closing.call,
        to_text(closing.model),
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write,
        closing.cost_usd,
        usage.estimated,
        closing.ending,
        to_text(closing.request_id) if closing.request_id else None,
        checkpoint.step if checkpoint else None,
        to_json(checkpoint.as_json()) if checkpoint else None,
    )
