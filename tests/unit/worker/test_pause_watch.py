"""What a worker knows of a pause while Postgres says nothing."""

from datetime import UTC, datetime

import pytest

from service.domain.errors import Unavailable
from service.ports.queue_control import Pause
from service.telemetry.metrics import REGISTRY
from service.worker.pause_watch import PauseWatch
from service.worker.slots import Slots

PAUSE = Pause(datetime(2026, 11, 24, tzinfo=UTC), "acme/root", None)
AWAY = Unavailable("Postgres")


class Control:
    """Says what the test wants it to say."""

    says: Pause | Unavailable | None = None

    async def current_pause(self) -> Pause | None:
        if isinstance(self.says, Unavailable):
            raise self.says
        return self.says


class Worker:
    """Slots under watch, and how often it was told to read on."""

    def __init__(self) -> None:
        self.control, self.slots, self.resumed = Control(), Slots(2), 0
        self.watch = PauseWatch(self.control, self.slots, on_resume=self._resume)

    def _resume(self) -> None:
        self.resumed += 1

    async def hears(self, answer: Pause | Unavailable | None) -> int:
        """Look once, and return how many attempts may start then."""
        self.control.says = answer
        if isinstance(answer, Unavailable):
            with pytest.raises(Unavailable):
                await self.watch.look()
        else:
            await self.watch.look()
        return self.slots.free


async def test_nothing_starts_before_it_is_known_whether_it_may() -> None:
    worker = Worker()
    assert worker.slots.free == 0
    assert await worker.hears(AWAY) == 0
    assert await worker.hears(None) == 2
    assert worker.resumed == 1


async def test_what_was_said_last_holds_while_postgres_is_away() -> None:
    worker = Worker()
    assert [await worker.hears(each) for each in (None, AWAY, PAUSE, AWAY, None)] == [2, 2, 0, 0, 2]
    assert worker.resumed == 2


async def test_it_is_shown_and_reading_goes_on_only_at_a_change() -> None:
    worker = Worker()
    shown = []
    for answer in (PAUSE, PAUSE, None, None):
        await worker.hears(answer)
        shown.append(REGISTRY.get_sample_value("usa_paused"))
    assert shown == [1, 1, 0, 0]
    assert worker.resumed == 1
