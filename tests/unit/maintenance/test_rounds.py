"""A round of maintenance: every step is taken, and no failure goes unheard."""

import pytest
from structlog.testing import capture_logs

from service.domain.errors import Unavailable
from service.maintenance import rounds
from service.maintenance.rounds import take_all
from service.telemetry.logs import get_log


async def works() -> int:
    return 3


async def breaks() -> int:
    raise KeyError("one")


async def breaks_otherwise() -> int:
    raise ValueError("two")


async def is_away() -> int:
    raise Unavailable("Redis")


async def test_every_failure_is_heard_of_and_the_first_one_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "_log", get_log("test"))

    with capture_logs() as logs, pytest.raises(KeyError, match="one"):
        await take_all((breaks, works, breaks_otherwise))

    assert [each["error"] for each in logs] == ["KeyError('one')", "ValueError('two')"]


async def test_an_outage_does_not_hide_what_else_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_log", get_log("test"))

    with capture_logs() as logs, pytest.raises(Unavailable):
        await take_all((breaks, is_away, works))

    assert [each["error"] for each in logs] == ["KeyError('one')"]


async def test_the_answer_is_the_sum_of_what_was_done() -> None:
    assert await take_all((works, works)) == 6
