"""Signals interrupt at moments that leave nothing half done."""

import os
import signal
from collections.abc import Iterator

import pytest

from service.cli.signals import interruptions_held

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """This process hears signals afterwards as it did before."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


def signalled(*numbers: signal.Signals, done: list[signal.Signals]) -> None:
    """Do something that must be whole while signals come."""
    with interruptions_held():
        for number in numbers:
            os.kill(os.getpid(), number)
            done.append(number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_for_the_end_of_what_must_be_whole(number: signal.Signals) -> None:
    done: list[signal.Signals] = []
    with pytest.raises(KeyboardInterrupt):
        signalled(number, done=done)
    assert done == [number]


def test_a_second_signal_does_not_wait() -> None:
    done: list[signal.Signals] = []
    with pytest.raises(KeyboardInterrupt):
        signalled(signal.SIGINT, signal.SIGTERM, done=done)
    assert done == [signal.SIGINT]


def test_without_a_signal_nothing_is_interrupted_until_the_next_one() -> None:
    signalled(done=[])
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
