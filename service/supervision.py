"""The one owner of background tasks: start, repeat, back off, stop, drain, deadline."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextvars import Context
from time import monotonic
from typing import Any, TypeVar

from service.domain.errors import Unavailable
from service.telemetry.logs import get_log
from service.telemetry.metrics import LOOP_FAILURES, RETRIES

_log = get_log(__name__)

Answer = TypeVar("Answer")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_UNTIL_CANCELLED_AGAIN = 0.5


async def retry_while_unavailable(
    what: str, act: Callable[[], Awaitable[Answer]], *, patience: float = float("inf")
) -> Answer:
    """Repeat a call that may run twice without effect until its server answers.

    Raises the last `Unavailable` once `patience` seconds have passed.
    """
    started, pause = monotonic(), _FIRST_PAUSE
    while True:
        try:
            return await act()
        except Unavailable as error:
            if monotonic() - started + pause > patience:
                raise
            if pause == _FIRST_PAUSE:
                _log.warning("retrying_while_unavailable", what=what, error=_with_cause(error))
            RETRIES.labels(what=what).inc()
        await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 - jitter, no secret
        pause = min(_LONGEST_PAUSE, pause * 2)


class Background:
    """A set of named tasks that are kept alive, watched, and ended together."""

    def __init__(self, *, on_crash: Callable[[], None] | None = None) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_crash = on_crash

    def spawn(
        self, name: str, work: Coroutine[Any, Any, Any], *, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Run a coroutine; an exception it does not handle is logged, counted and reported.

        It works, and logs, in a copy of its starter's context, unless it is given another.
        """
        task = asyncio.create_task(work, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        crash = _crash(task)
        if crash is None:
            return
        LOOP_FAILURES.labels(loop=task.get_name().split(":")[0]).inc()
        _log.error("background_task_crashed", task=task.get_name(), exc_info=crash)
        if self._on_crash is not None:
            self._on_crash()

    def __len__(self) -> int:
        return len(self._tasks)

    async def drain(self, within: float) -> bool:
        """Wait for every task to end by itself, those started meanwhile too.

        Returns whether all did within so many seconds.
        """
        deadline = monotonic() + within
        while self._tasks and (left := deadline - monotonic()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left)
        return not self._tasks

    async def cancel(
        self, only: Collection[asyncio.Task[Any]] | None = None, *, within: float = 5.0
    ) -> None:
        """Cancel every task, those started meanwhile too, or some; wait a bounded time."""
        deadline = monotonic() + within
        cancelled: set[asyncio.Task[Any]] = set()
        while tasks := self._running(only):
            for task in tasks - cancelled:
                task.cancel()
            cancelled |= tasks
            left = deadline - monotonic()
            if left <= 0:
                break
            patience = min(left, _UNTIL_CANCELLED_AGAIN)
            ended, _ = await asyncio.wait(
                tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            if not ended:
                # Before Python 3.12 `wait_for`, which drivers use, can swallow a cancellation.
                cancelled.clear()
        for task in tasks:
            _log.error("background_task_did_not_end", task=task.get_name())

    def _running(self, only: Collection[asyncio.Task[Any]] | None) -> set[asyncio.Task[Any]]:
        return set(self._tasks) if only is None else self._tasks & set(only)


def _crash(task: asyncio.Task[Any]) -> BaseException | None:
    if not task.cancelled():
        return task.exception()
    # A cancellation that nobody asked for came out of what the task awaited.
    return None if task.cancelling() else asyncio.CancelledError("cancelled by what it awaited")


class Wakeup:
    """A level that anyone may raise and one loop waits for, with a timeout."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __call__(self) -> None:
        """Wake the loop up now, or make its next wait return at once."""
        self._event.set()

    async def wait(self, timeout: float) -> bool:
        """Return when woken or after `timeout` seconds; whether it was woken."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Periodic:
    """Calls `run_once` at once and then every `interval` seconds, and sooner when woken.

    A failing round is logged and counted, and the next one waits longer, up to `max_backoff`;
    waking a failing loop shortens the wait, but never makes it spin.
    """

    def __init__(
        self,
        name: str,
        run_once: Callable[[], Awaitable[object]],
        interval: float,
        *,
        max_backoff: float = 10.0,
    ) -> None:
        self.name = name
        self.wake = Wakeup()
        self._run_once = run_once
        self._interval = interval
        self._max_backoff = max_backoff
        self._stopping = False
        self._failures = 0

    async def run(self) -> None:
        """Repeat until stopped; the round under way always ends."""
        while not self._stopping:
            await self._round()
            if self._failures:
                await asyncio.sleep(_FIRST_PAUSE)
            await self.wake.wait(self._pause())

    def stop(self) -> None:
        """End after the round under way."""
        self._stopping = True
        self.wake()

    def _pause(self) -> float:
        if self._stopping:
            return 0.0
        if not self._failures:
            return self._interval
        backoff = min(self._max_backoff, self._interval * 2.0**self._failures)
        return max(self._interval, random.random() * backoff)  # noqa: S311 - jitter, no secret

    async def _round(self) -> None:
        try:
            await self._run_once()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - a loop survives every error; see LOOP_FAILURES
            self._failed(error)
        else:
            self._failures = 0

    def _failed(self, error: BaseException) -> None:
        self._failures = min(self._failures + 1, 10)
        LOOP_FAILURES.labels(loop=self.name).inc()
        _log.warning("loop_round_failed", loop=self.name, error=_with_cause(error))


def _with_cause(error: BaseException) -> str:
    return repr(error) if error.__cause__ is None else f"{error!r}: {error.__cause__}"
