"""SIGINT and SIGTERM as requests: to leave, to hurry, and heard no more once that is under way."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def ignore_signals() -> None:
    """Hear no more signals, so that cleaning up, which is bounded, is not cut short."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def interrupt_once_on_signals() -> None:
    """Raise `KeyboardInterrupt` at the next signal, and hear none after it."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


@contextmanager
def interruptions_held() -> Iterator[None]:
    """Let the first signal inside this block interrupt at its end, and the second one at once.

    For what must not be left half done, and takes moments.
    """
    is_asked = False

    def hold(number: int, frame: FrameType | None) -> None:
        nonlocal is_asked
        if is_asked:
            _interrupt(number, frame)
        is_asked = True

    for number in _SIGNALS:
        signal.signal(number, hold)
    yield
    interrupt_once_on_signals()
    if is_asked:
        _interrupt(signal.SIGINT, None)


def _interrupt(_: int, __: FrameType | None) -> None:
    ignore_signals()
    raise KeyboardInterrupt


class Leave:
    """The first signal asks this task to leave, the next makes it leave at once."""

    def __init__(self, on_asked: Callable[[], None]) -> None:
        self.is_asked = asyncio.Event()
        self._on_asked = on_asked
        self._task = asyncio.current_task()
        self._is_waiting = False

    async def wait(self) -> None:
        """Return when asked to leave; before and after this, being asked cancels."""
        self._is_waiting = True
        await self.is_asked.wait()
        self._is_waiting = False

    def ask(self) -> None:
        """Take note of one signal."""
        if self._is_waiting and not self.is_asked.is_set():
            self._on_asked()
        elif self._task is not None:
            self._task.cancel()
        self.is_asked.set()


@contextmanager
def leaving_on_signals(on_asked: Callable[[], None] = lambda: None) -> Iterator[Leave]:
    """Turn signals into requests to leave this block; one that comes after it interrupts.

    A cancellation that they caused ends here.
    """
    loop = asyncio.get_running_loop()
    leave = Leave(on_asked)
    for number in _SIGNALS:
        loop.add_signal_handler(number, leave.ask)
    try:
        yield leave
    except asyncio.CancelledError:
        if not leave.is_asked.is_set():
            raise
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        interrupt_once_on_signals()
