"""Writes the calls of one attempt down, whoever stops waiting for it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import Any

from service.domain.errors import LeaseLost
from service.domain.usage import Usage
from service.ports.attempts import CallClosing, CallOpening, UsageLedger
from service.supervision import Background, retry_while_unavailable
from service.telemetry.logs import get_log
from service.telemetry.metrics import WRITES_FENCED

_log = get_log(__name__)


class Bookkeeper:
    """Every opening that was sent is followed by a closing, through outages of any length."""

    def __init__(self, ledger: UsageLedger, background: Background) -> None:
        self._ledger = ledger
        self._background = background
        self._bookings: set[asyncio.Task[bool]] = set()

    async def open(self, opening: CallOpening, gate: Callable[[], Awaitable[None]]) -> None:
        """Open a call's row, passing `gate` before every try; raises `LeaseLost`."""

        async def open_behind_gate() -> bool:
            await gate()
            return await self._ledger.open_call(opening)

        try:
            if await retry_while_unavailable("open_call", open_behind_gate):
                return
            raise LeaseLost("another attempt owns the job")
        except BaseException:
            self._book(self._take_back(opening))
            raise

    def close(self, closing: CallClosing) -> asyncio.Task[bool]:
        """Book how a call ended; the task answers whether its attempt was current."""
        return self._book(self._close(closing))

    async def done(self) -> None:
        """Return when everything is written down, or cannot be."""
        if self._bookings:
            await asyncio.wait(set(self._bookings))

    def _book(self, writing: Coroutine[Any, Any, bool]) -> asyncio.Task[bool]:
        task = self._background.spawn("book_call", writing)
        self._bookings.add(task)
        task.add_done_callback(self._bookings.discard)
        return task

    async def _take_back(self, opening: CallOpening) -> bool:
        """Close a call that was not made, whose row may be there all the same."""
        # The opening may still be under way. Once it was repeated it can change nothing any more.
        if not await retry_while_unavailable("open_call", lambda: self._ledger.open_call(opening)):
            WRITES_FENCED.labels(write="open_call").inc()
        return await self._close(
            CallClosing(
                fence=opening.fence,
                call=opening.call,
                model=opening.model,
                usage=Usage(),
                cost_usd=Decimal(0),
                ending="aborted",
                request_id=None,
                checkpoint=None,
            )
        )

    async def _close(self, closing: CallClosing) -> bool:
        try:
            is_current = await retry_while_unavailable(
                "close_call", lambda: self._ledger.close_call(closing)
            )
        except BaseException:
            _log.error(
                "call_not_booked",
                job=str(closing.fence.job_id),
                attempt=closing.fence.attempt,
                call=closing.call,
                ending=closing.ending,
                tokens=closing.usage.total,
            )
            raise
        if closing.checkpoint is not None and not is_current:
            WRITES_FENCED.labels(write="checkpoint").inc()
        return is_current
