"""What several tests of a worker without servers need."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from service import supervision
from service.supervision import Background
from service.worker.running_attempt import RunningAttempt
from tests.unit.worker.ledger import MemoryLedger
from tests.unit.worker.paying import FENCE, Pedals, an_attempt


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged; not shown, because these tests crash a lot."""
    with capture_logs() as logs:
        yield logs


@pytest.fixture
def ledger() -> MemoryLedger:
    """An empty ledger of a job whose first attempt runs."""
    return MemoryLedger(current={FENCE})


@pytest.fixture
def pedals() -> Pedals:
    """Released brakes."""
    return Pedals()


@pytest.fixture
def attempt(
    ledger: MemoryLedger,
    background: Background,
    pedals: Pedals,
    monkeypatch: pytest.MonkeyPatch,
) -> RunningAttempt:
    """The first attempt, which does not wait long between tries."""
    monkeypatch.setattr(supervision, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(supervision, "_LONGEST_PAUSE", 0.01)
    monkeypatch.setattr("service.worker.running_attempt._DOUBT_POLL", 0.005)
    return an_attempt(ledger, background, pedals)
