"""Whether what a process needs is there."""

from collections.abc import Awaitable, Callable

Probe = Callable[[], Awaitable[None]]
