"""Waiting for jobs costs one statement per round, however many wait."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

import pytest

from service.api.endings import Endings
from service.domain.errors import Unavailable
from service.domain.job import JobStatus
from service.ports.attempts import Recorded
from service.ports.jobs import JobStore
from service.supervision import Background
from service.telemetry.metrics import LOOP_FAILURES
from tests.fixtures.factories import an_id
from tests.fixtures.waiting import eventually

LONG = 30.0


@dataclass
class Statuses:
    """Where jobs stand; the part of a store that waiting needs. It can be away."""

    of: dict[UUID, JobStatus] = field(default_factory=dict)
    asked: list[set[UUID]] = field(default_factory=list)
    is_away: bool = False

    async def read_fences(self, job_ids: Sequence[UUID]) -> dict[UUID, Recorded]:
        self.asked.append(set(job_ids))
        if self.is_away:
            raise Unavailable("Postgres")
        return {
            job_id: Recorded(applied=False, status=self.of[job_id], attempt=1)
            for job_id in job_ids
            if job_id in self.of
        }


@pytest.fixture
def statuses() -> Statuses:
    return Statuses()


@pytest.fixture
def endings(statuses: Statuses, background: Background) -> Endings:
    return Endings(cast("JobStore", statuses), background, pause=0.01)


async def test_everybody_who_waits_is_told_of_the_end(
    endings: Endings, statuses: Statuses, background: Background
) -> None:
    ends, goes_on = an_id(), an_id()
    statuses.of = {ends: JobStatus.QUEUED, goes_on: JobStatus.QUEUED}
    waiting = [asyncio.create_task(endings.wait(ends, LONG)) for _ in range(5)]
    other = asyncio.create_task(endings.wait(goes_on, LONG))
    await eventually(lambda: statuses.asked)

    statuses.of[ends] = JobStatus.COMPLETED
    await asyncio.wait_for(asyncio.gather(*waiting), 5)

    assert not other.done()
    assert statuses.asked[-1] == {ends, goes_on}
    other.cancel()
    await eventually(lambda: len(background) == 0)


async def test_nobody_waits_for_a_job_that_is_gone(endings: Endings) -> None:
    await asyncio.wait_for(endings.wait(an_id(), LONG), 5)


async def test_the_time_can_be_up_first(
    endings: Endings, statuses: Statuses, background: Background
) -> None:
    job = an_id()
    statuses.of = {job: JobStatus.PROCESSING}
    await asyncio.wait_for(endings.wait(job, 0.01), 5)
    await eventually(lambda: len(background) == 0, what="nobody waits, so nobody looks")


async def test_a_wait_of_no_time_asks_nothing(endings: Endings, statuses: Statuses) -> None:
    await endings.wait(an_id(), 0)
    assert statuses.asked == []


async def test_waiting_outlasts_a_server_that_is_away(endings: Endings, statuses: Statuses) -> None:
    job = an_id()
    statuses.of = {job: JobStatus.PROCESSING}
    statuses.is_away = True
    failures = LOOP_FAILURES.labels(loop="endings")
    before = failures._value.get()
    waiting = asyncio.create_task(endings.wait(job, LONG))
    await eventually(lambda: failures._value.get() > before)

    statuses.is_away = False
    statuses.of[job] = JobStatus.FAILED
    await asyncio.wait_for(waiting, 5)


async def test_closing_lets_everybody_go(endings: Endings, statuses: Statuses) -> None:
    job = an_id()
    statuses.of = {job: JobStatus.PROCESSING}
    waiting = asyncio.create_task(endings.wait(job, LONG))
    await eventually(lambda: statuses.asked)
    endings.close()
    await asyncio.wait_for(waiting, 5)
    await asyncio.wait_for(endings.wait(job, LONG), 5)


async def test_one_who_leaves_takes_nobody_along(endings: Endings, statuses: Statuses) -> None:
    job = an_id()
    statuses.of = {job: JobStatus.PROCESSING}
    leaves, stays = (asyncio.create_task(endings.wait(job, LONG)) for _ in range(2))
    await eventually(lambda: statuses.asked)
    leaves.cancel()
    rounds = len(statuses.asked)
    await eventually(lambda: len(statuses.asked) > rounds)
    assert leaves.cancelled()
    assert not stays.done()
    statuses.of[job] = JobStatus.CANCELLED
    await asyncio.wait_for(stays, 5)
