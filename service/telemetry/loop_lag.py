"""How late the event loop is, as whatever runs on it feels it."""

import asyncio
from collections import deque
from time import monotonic

from service.telemetry.metrics import EVENT_LOOP_LAG_SECONDS

_EVERY = 0.25
# As long as Prometheus usually waits between two looks, twice: no stall hides between them.
_REMEMBERED = 30.0


async def watch_event_loop() -> None:
    """Export the longest lag of the last half minute, until this task is cancelled."""
    lags: deque[tuple[float, float]] = deque()
    while True:
        due = monotonic() + _EVERY
        # What it is late by is what is measured.
        await asyncio.sleep(_EVERY)
        now = monotonic()
        lags.append((now, now - due))
        while now - lags[0][0] > _REMEMBERED:
            lags.popleft()
        EVENT_LOOP_LAG_SECONDS.set(max(lag for _, lag in lags))
