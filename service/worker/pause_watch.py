"""Learns whether the queue is paused, and keeps the slots closed while it is."""

from service.ports.queue import Wake
from service.ports.queue_control import PauseState
from service.telemetry.logs import get_log
from service.telemetry.metrics import PAUSED
from service.worker.slots import Slots

_log = get_log(__name__)


class PauseWatch:
    """The slots are closed until the first look, because nothing may start before it is known.

    While Postgres does not answer, what it said last holds. `on_resume` is called when slots
    have opened.
    """

    def __init__(self, control: PauseState, slots: Slots, *, on_resume: Wake) -> None:
        self._control = control
        self._slots = slots
        self._on_resume = on_resume
        self._is_paused: bool | None = None
        slots.close()

    async def look(self) -> None:
        """Ask once; raises `Unavailable`."""
        pause = await self._control.current_pause()
        was_paused, self._is_paused = self._is_paused, pause is not None
        if self._is_paused is was_paused:
            return
        PAUSED.set(self._is_paused)
        if pause is not None:
            self._slots.close()
            _log.warning("worker_paused", since=pause.since, by=pause.by, reason=pause.reason)
            return
        if was_paused:
            _log.info("worker_resumed")
        self._slots.open()
        self._on_resume()
