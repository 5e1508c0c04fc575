"""Gauges tell what is so now, and nothing that has been so."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from service.telemetry import loop_lag, queue_gauge
from service.telemetry.loop_lag import watch_event_loop
from service.telemetry.metrics import REGISTRY
from service.telemetry.pools import PoolUse, exported_pool
from service.telemetry.queue_gauge import QueueGauge
from tests.fixtures.waiting import eventually

BLOCKED = 0.5


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(queue_gauge, "monotonic", clock)
    return clock


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_values_are_shown_until_they_are_stale(clock: Clock, registry: CollectorRegistry) -> None:
    gauge = QueueGauge("jobs", "Jobs.", ["state"], registry=registry)
    alone = QueueGauge("paused", "Paused.", registry=registry)
    at_first = registry.get_sample_value("paused")

    gauge.show({("queued",): 3}, lasting=10)
    alone.show({(): 4}, lasting=10)
    clock.now += 9.9
    fresh = registry.get_sample_value("jobs", {"state": "queued"})
    fresh_alone = registry.get_sample_value("paused")
    clock.now += 0.1

    assert (at_first, fresh, fresh_alone) == (None, 3, 4)
    assert registry.get_sample_value("jobs", {"state": "queued"}) is None
    assert registry.get_sample_value("paused") is None


def test_what_is_shown_replaces_all_that_was(clock: Clock, registry: CollectorRegistry) -> None:
    gauge = QueueGauge("lag", "Lag.", ["stream"], registry=registry)
    gauge.show({("jobs",): 3, ("again",): 1}, lasting=10)
    gauge.show({("again",): 2}, lasting=10)

    assert registry.get_sample_value("lag", {"stream": "again"}) == 2
    assert registry.get_sample_value("lag", {"stream": "jobs"}) is None


def test_hidden_values_are_gone_at_once(clock: Clock, registry: CollectorRegistry) -> None:
    gauge = QueueGauge("jobs", "Jobs.", ["state"], registry=registry)
    gauge.show({("queued",): 3}, lasting=10)
    gauge.hide()

    assert registry.get_sample_value("jobs", {"state": "queued"}) is None


def use_of(pool: str) -> dict[str, float | None]:
    return {
        state: REGISTRY.get_sample_value("usa_pool_connections", {"pool": pool, "state": state})
        for state in PoolUse._fields
    }


def test_a_pool_is_looked_at_when_it_is_scraped_and_no_longer_than_it_lives() -> None:
    looks: Iterator[int] = iter(range(1, 100))
    with exported_pool("a_pool", lambda: PoolUse(used=next(looks), idle=0, most=9)):
        first = use_of("a_pool")
        second = use_of("a_pool")

    assert first["most"] == 9
    assert (first["used"] or 0) < (second["used"] or 0)
    assert use_of("a_pool") == {"used": None, "idle": None, "most": None}


def lag() -> float:
    value = REGISTRY.get_sample_value("usa_event_loop_lag_seconds")
    assert value is not None
    return value


class Looks:
    """The real clock, that counts how often it is looked at."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> float:
        self.number += 1
        return time.monotonic()


@pytest.fixture
async def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """The watch's clock; it looks often."""
    looks = Looks()
    monkeypatch.setattr(loop_lag, "_EVERY", 0.01)
    monkeypatch.setattr(loop_lag, "monotonic", looks)
    return looks


async def block_while_watched() -> None:
    await asyncio.sleep(0)  # the watch has begun
    time.sleep(BLOCKED)  # noqa: ASYNC251 - what holds up the loop is what this is about


async def test_a_loop_that_was_held_up_says_so_for_a_while(looks: Looks) -> None:
    watch = asyncio.create_task(watch_event_loop())
    await block_while_watched()
    await eventually(lambda: lag() > BLOCKED / 2, within=10, what="the lag is told")
    until = looks.number + 40
    await eventually(lambda: looks.number >= until, within=10, what="it has looked again")
    remembered = lag()
    watch.cancel()

    assert remembered > BLOCKED / 2


@pytest.mark.usefixtures("looks")
async def test_a_lag_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = asyncio.create_task(watch_event_loop())
    await block_while_watched()
    await eventually(lambda: lag() > BLOCKED / 2, within=10, what="the lag is told")
    monkeypatch.setattr(loop_lag, "_REMEMBERED", 0.05)
    await eventually(lambda: lag() < BLOCKED / 2, within=10, what="the lag is forgotten")
    watch.cancel()
