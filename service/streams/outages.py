"""An outage is told of when it begins and when it ends, however often it is noticed."""

import random
from asyncio import sleep
from time import monotonic
from typing import Any

from service.telemetry.logs import get_log

_log = get_log(__name__)


async def pause_before_reconnecting() -> None:
    """Wait a moment, never the same, so that not all come at once."""
    await sleep(0.2 + random.random())  # noqa: S311 - jitter, no secret


class Outage:
    """Whether a subscription is cut, which `name` says in the log."""

    def __init__(self, name: str, **where: str) -> None:
        self._name = name
        self._where: dict[str, Any] = where
        self._since: float | None = None

    def lasts(self, error: BaseException) -> None:
        """Say so, unless that is known."""
        if self._since is None:
            self._since = monotonic()
            _log.warning(f"{self._name}_disconnected", **self._where, error=str(error.__cause__))

    def is_over(self) -> None:
        """Say so, if there was one."""
        if self._since is not None:
            seconds = round(monotonic() - self._since, 1)
            _log.info(f"{self._name}_reconnected", **self._where, seconds=seconds)
            self._since = None
