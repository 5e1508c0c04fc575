"""What cannot follow a decision now is counted once and left to maintenance."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast
from uuid import UUID

import pytest

from service.api.dependencies import ApiDependencies
from service.api.followups import announce_cancellation, announce_redrive, ring
from service.domain.attempt import Delivery, Fence
from service.domain.dead_letters import Redriven
from service.domain.errors import Unavailable
from service.domain.events import EventId, JobEvent
from service.domain.job import Job, JobStatus
from service.ports.events import Appended
from service.telemetry.metrics import LOST_MARKS
from tests.fixtures.factories import an_id
from tests.unit.domain.jobs import a_job


@dataclass
class Servers:
    """All that follows a decision, in memory; the calls named in `away` fail."""

    away: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    begun: list[tuple[EventId, float]] = field(default_factory=list)
    cleared: list[EventId] = field(default_factory=list)
    verdict: str = "appended"
    event_retention: float = 60.0

    def _do(self, call: str) -> None:
        if call in self.away:
            raise Unavailable("a server")
        self.done.append(call)

    async def add_entry(self, job_id: UUID, attempt: int, trace_parent: str | None) -> Delivery:
        self._do("add_entry")
        return Delivery("jobs", f"{attempt}-1", job_id, trace_parent)

    async def mark_entry(self, fence: Fence, entry_id: str) -> None:
        self._do("mark_entry")

    async def cancel(self, job_id: UUID) -> None:
        self._do("cancel_nudge")

    async def append(self, job_id: UUID, events: Sequence[JobEvent], ttl: float) -> Appended:
        self._do("append_final_event")
        return Appended(self.verdict, events[-1].id)

    async def clear_event_pending(self, job_id: UUID, final_event_id: EventId) -> None:
        self._do("clear_event_pending")
        self.cleared.append(final_event_id)

    async def redrive(self, job_id: UUID, event: JobEvent, ttl: float) -> Appended:
        self._do("redrive_events")
        self.begun.append((event.id, ttl))
        return Appended(self.verdict, event.id)

    def wake_relay(self) -> None:
        self._do("wake_relay")

    @property
    def as_dependencies(self) -> ApiDependencies:
        """These servers in all places where one of them is needed."""
        return cast("ApiDependencies", _Everywhere(self))


@dataclass
class _Everywhere:
    servers: Servers

    def __getattr__(self, name: str) -> object:
        own = {"jobs", "entries", "events", "nudges"}
        return self.servers if name in own else getattr(self.servers, name)


def a_cancelled_job() -> Job:
    """A job just cancelled."""
    job = replace(a_job(), id=an_id(), status=JobStatus.CANCELLED, attempt=3)
    return replace(job, final_event_id=str(EventId(3, 1)))


def lost(write: str) -> float:
    """How often a lazy write was left to maintenance."""
    return float(LOST_MARKS.labels(write=write)._value.get())


async def test_a_job_is_rung_for_and_its_entry_noted() -> None:
    servers = Servers()
    await ring(servers.as_dependencies, a_job())
    assert servers.done == ["add_entry", "mark_entry"]


@pytest.mark.parametrize(
    ("away", "done"), [("add_entry", ["wake_relay"]), ("mark_entry", ["add_entry"])]
)
async def test_a_ring_that_fails_is_the_relays_to_do(away: str, done: list[str]) -> None:
    servers, before = Servers(away={away}), lost(away)
    await ring(servers.as_dependencies, a_job())
    assert servers.done == done
    assert lost(away) == before + 1


async def test_a_cancellation_is_told_to_workers_first_and_settled_last() -> None:
    servers = Servers()
    await announce_cancellation(servers.as_dependencies, a_cancelled_job())
    assert servers.done == ["cancel_nudge", "append_final_event", "clear_event_pending"]
    assert servers.cleared == [EventId(3, 1)]


@pytest.mark.parametrize(
    ("away", "done"),
    [
        ("cancel_nudge", ["append_final_event", "clear_event_pending"]),
        ("append_final_event", ["cancel_nudge"]),
        ("clear_event_pending", ["cancel_nudge", "append_final_event"]),
    ],
)
async def test_whatever_of_it_fails_does_not_stop_the_rest(away: str, done: list[str]) -> None:
    servers, before = Servers(away={away}), lost(away)
    await announce_cancellation(servers.as_dependencies, a_cancelled_job())
    assert servers.done == done
    assert lost(away) == before + 1


@pytest.mark.parametrize("verdict", ["fenced", "hole"])
async def test_an_event_that_is_not_in_the_stream_stays_owed(verdict: str) -> None:
    servers = Servers(verdict=verdict)
    await announce_cancellation(servers.as_dependencies, a_cancelled_job())
    assert servers.done == ["cancel_nudge", "append_final_event"]


def a_redriven_job() -> Job:
    """A job just redriven, with an hour to run."""
    return replace(a_job(), id=an_id(), status=JobStatus.QUEUED, attempt=3)


async def test_a_redrive_is_told_before_its_entry_is_added() -> None:
    servers = Servers()
    await announce_redrive(servers.as_dependencies, Redriven(a_redriven_job(), ring_now=True))
    assert servers.done == ["redrive_events", "add_entry", "mark_entry"]
    assert servers.begun == [(EventId(3, 1), 3660.0)]


async def test_a_redriven_job_that_has_to_wait_is_the_relays_to_ring_for() -> None:
    servers = Servers()
    await announce_redrive(servers.as_dependencies, Redriven(a_redriven_job(), ring_now=False))
    assert servers.done == ["redrive_events"]


@pytest.mark.parametrize(
    ("away", "done"),
    [
        ("redrive_events", ["add_entry", "mark_entry"]),
        ("add_entry", ["redrive_events", "wake_relay"]),
        ("mark_entry", ["redrive_events", "add_entry"]),
    ],
)
async def test_whatever_fails_after_a_redrive_does_not_stop_the_rest(
    away: str, done: list[str]
) -> None:
    servers, before = Servers(away={away}), lost(away)
    await announce_redrive(servers.as_dependencies, Redriven(a_redriven_job(), ring_now=True))
    assert servers.done == done
    assert lost(away) == before + 1
