"""Slots: as many as there are, and one attempt per job."""

from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest

from service.telemetry.metrics import REGISTRY
from service.worker.processor import JobProcessor
from service.worker.slots import Slots

JOB = UUID(int=7)


def a_processor(*, is_suspect: bool = False) -> JobProcessor:
    return cast("JobProcessor", SimpleNamespace(is_suspect=is_suspect))


def shown() -> tuple[float | None, float | None]:
    name = "usa_worker_slots"
    return (
        REGISTRY.get_sample_value(name, {"state": "busy"}),
        REGISTRY.get_sample_value(name, {"state": "free"}),
    )


def test_a_slot_is_taken_and_given_back() -> None:
    slots, processor = Slots(2), a_processor()

    slots.occupy(JOB, processor)
    assert (slots.free, len(slots), list(slots), shown()) == (1, 1, [processor], (1, 1))
    assert slots.running(JOB) is processor
    slots.vacate(JOB)

    assert (slots.free, len(slots), list(slots), shown()) == (2, 0, [], (0, 2))
    assert slots.running(JOB) is None


def test_a_job_never_takes_two_slots() -> None:
    slots = Slots(2)
    slots.occupy(JOB, a_processor())

    with pytest.raises(ValueError, match="already runs here"):
        slots.occupy(JOB, a_processor())

    assert slots.free == 1


def test_suspects_are_counted() -> None:
    slots = Slots(3)
    slots.occupy(JOB, a_processor(is_suspect=True))
    slots.occupy(UUID(int=8), a_processor())

    assert slots.suspects == 1
