"""A worker's life: jobs come and go while it starts and stops, and none of them notices."""

import asyncio
from collections import Counter
from collections.abc import MutableMapping
from time import monotonic
from typing import Any

import pytest

from service.domain.events import EventType, JobEvent
from service.domain.job import JobStatus, JsonObject
from service.ports.agent import Attempt
from service.telemetry.metrics import REGISTRY
from service.worker import pool as pool_module
from tests.fixtures.agents import Acting
from tests.fixtures.models import HeldModel, ScriptedModel
from tests.fixtures.waiting import eventually
from tests.integration.worker.watching import Watch
from tests.integration.worker.workplace import Workplace, calling

Logs = list[MutableMapping[str, Any]]


def slots(state: str) -> float:
    return REGISTRY.get_sample_value("usa_worker_slots", {"state": state}) or 0.0


# --- stopping ----------------------------------------------------------------------------------


async def test_workers_that_come_and_go_finish_every_job_and_pay_each_call_once(
    workplace: Workplace,
) -> None:
    jobs = [await workplace.submit("sleep", steps=3, seconds=0.15) for _ in range(24)]
    relay = workplace.relay()

    async def come_and_go() -> None:
        while not await all_ended():
            async with workplace.worker(shutdown_grace=0.2):
                await asyncio.sleep(0.7)
            await relay.run_once()

    async def all_ended() -> bool:
        return all([(await workplace.job(each)).status.is_terminal for each in jobs])

    await asyncio.gather(come_and_go(), come_and_go())
    async with workplace.worker():
        await workplace.is_idle()

    for job_id in jobs:
        job = await workplace.job(job_id)
        assert (job.status, job.error_count, job.crash_count) == (JobStatus.COMPLETED, 0, 0)
        assert await workplace.terminal_events(job_id) == ["complete"]
        finished = [
            step for _, step, ending in await workplace.ledger(job_id) if ending != "aborted"
        ]
        assert finished == [f"step-{number}/draft" for number in (1, 2, 3)]
    handed_back = await workplace.observer.value("SELECT sum(handback_count) FROM jobs")
    assert isinstance(handed_back, int)
    assert handed_back > 0


async def test_running_jobs_end_within_the_grace(workplace: Workplace) -> None:
    job_id = await workplace.submit("sleep", steps=3, seconds=0.2)

    async with workplace.worker(shutdown_grace=10.0) as pool:
        await eventually(lambda: pool.processors)
        began = monotonic()

    assert monotonic() - began < 10.0
    job = await workplace.job(job_id)
    assert (job.status, job.attempt, job.handback_count) == (JobStatus.COMPLETED, 1, 0)


async def test_a_job_that_outlasts_the_grace_is_handed_back_free_of_charge(
    workplace: Workplace,
) -> None:
    model = HeldModel()
    job_id = await workplace.submit()

    async with workplace.worker(calling(model), shutdown_grace=0.5):
        await eventually(model.at_work.is_set)
        began = monotonic()
    assert monotonic() - began >= 0.5

    job = await workplace.job(job_id)
    assert (job.status, job.handback_count) == (JobStatus.QUEUED, 1)
    assert (job.error_count, job.crash_count) == (0, 0)
    model.released.set()
    async with workplace.worker(calling(model), lease=60.0, renew_every=0.5):
        assert await workplace.ended(job_id, within=20.0) == [JobStatus.COMPLETED]
        await workplace.is_idle()
    assert await workplace.ledger(job_id) == [(1, "draft", "aborted"), (2, "draft", "finished")]


async def test_a_worker_asked_to_hurry_hands_back_at_once(workplace: Workplace) -> None:
    model = HeldModel()
    job_id = await workplace.submit()

    async with workplace.worker(calling(model), shutdown_grace=300.0) as pool:
        await eventually(model.at_work.is_set)
        stopping = asyncio.create_task(pool.stop())
        await eventually(lambda: pool.is_draining)
        stopping.cancel()
        await asyncio.wait({stopping})

    job = await workplace.job(job_id)
    assert stopping.cancelled()
    assert (job.status, job.handback_count) == (JobStatus.QUEUED, 1)
    assert await workplace.ledger(job_id) == [(1, "draft", "aborted")]


async def test_attempts_stop_at_a_finished_call_only_when_the_grace_is_nearly_over(
    workplace: Workplace,
) -> None:
    job_id = await workplace.submit("sleep", steps=50, seconds=0.1)

    async with workplace.worker(shutdown_grace=2.0) as pool:
        await eventually(lambda: pool.processors)
        at_first = pool.at_next_call
        began = monotonic()
    took = monotonic() - began

    assert (at_first, pool.at_next_call) == (False, True)
    assert took > 1.5
    calls = await workplace.ledger(job_id)
    assert {ending for _, _, ending in calls} == {"finished"}
    assert len(calls) > 10
    assert (await workplace.job(job_id)).handback_count == 1


async def test_a_short_grace_does_not_cut_the_last_read_off(
    workplace: Workplace, logged: Logs
) -> None:
    async with workplace.worker(shutdown_grace=0.01):
        await eventually(workplace.streams.somebody_waits)

    assert not await workplace.streams.somebody_waits()
    assert [log["event"] for log in logged if log["log_level"] == "error"] == []


async def test_an_ending_that_cannot_be_recorded_does_not_outlive_its_worker(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_RECORDING", 0.3)
    watch = Watch()
    watch.away["record"] = 1_000_000
    job_id = await workplace.submit("sleep")

    async with workplace.worker(watch=watch, shutdown_grace=0.3) as pool:
        await eventually(lambda: watch.away["record"] < 1_000_000)

    assert (len(pool._attempts), pool.processors) == (0, [])
    assert (await workplace.job(job_id)).status is JobStatus.PROCESSING
    assert len(await workplace.streams.pending()) == 1


async def test_stopping_twice_or_before_the_start_does_nothing(workplace: Workplace) -> None:
    pools = []
    async with workplace.worker() as pool:
        pools.append(pool)
        await pool.stop()
        assert pool.is_draining
        await pool.stop()

    unstarted = type(pool)(
        pool._to,
        pool._stream,
        pool._nudges,
        workplace.stores.queue,
        pool._consumer._terms,
        vital=pool._vital,
        on_claim=lambda: None,
    )
    await unstarted.stop()
    assert not unstarted.is_draining


async def test_a_worker_that_left_shows_no_free_slot(workplace: Workplace) -> None:
    model = HeldModel()
    await workplace.submit()

    async with workplace.worker(calling(model), concurrency=4):
        await eventually(model.at_work.is_set)
        assert (slots("busy"), slots("free")) == (1, 3)
        model.released.set()
        await eventually(lambda: (slots("busy"), slots("free")) == (0, 4))

    assert (slots("busy"), slots("free")) == (0, 0)


# --- running -----------------------------------------------------------------------------------


async def test_a_crash_of_a_processor_frees_its_slot(workplace: Workplace) -> None:
    watch = Watch()
    watch.broken["record"] = RuntimeError("a bug")
    await workplace.submit("sleep")

    async with workplace.worker(watch=watch, concurrency=1) as pool:
        await eventually(lambda: "close" in watch.done)
        await eventually(lambda: not pool.processors)
        del watch.broken["record"]
        healthy = await workplace.submit("sleep")
        assert await workplace.ended(healthy) == [JobStatus.COMPLETED]


async def test_a_listener_hears_a_jobs_events_until_it_unsubscribes(workplace: Workplace) -> None:
    go_on = asyncio.Event()

    async def act(attempt: Attempt) -> JsonObject:
        attempt.emit(EventType.ITERATION_START, {"iteration": "one"})
        await go_on.wait()
        return {"text": "done"}

    heard: list[JobEvent] = []
    first_only: list[JobEvent] = []
    job_id, other = await workplace.accept(), await workplace.accept()
    async with workplace.worker(Acting(act)) as pool:
        unsubscribe = pool.subscribe_to_job(job_id, heard.append)
        leave = pool.subscribe_to_job(job_id, first_only.append)
        for each in (job_id, other):
            await workplace.ring(each)
        await eventually(lambda: first_only)
        leave()
        leave()
        go_on.set()
        assert await workplace.ended(job_id, other) == [JobStatus.COMPLETED] * 2
        await eventually(lambda: len(heard) == 2)
        unsubscribe()
        assert pool._listeners == {}

    assert [event.type for event in heard] == [EventType.ITERATION_START, EventType.COMPLETE]
    assert {event.data["jobId"] for event in heard} == {str(job_id)}
    assert [event.type for event in first_only] == [EventType.ITERATION_START]


async def test_the_relay_is_woken_by_every_claim(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: Counter[str] = Counter()
    monkeypatch.setattr(
        "tests.integration.worker.workplace.Wakeup", lambda: lambda: woken.update(["relay"])
    )
    jobs = [await workplace.submit("sleep") for _ in range(3)]

    async with workplace.worker():
        await workplace.ended(*jobs)

    assert woken["relay"] == 3


async def test_a_zombie_writes_nothing_but_what_its_call_has_cost(workplace: Workplace) -> None:
    zombie, model = Watch(), HeldModel()
    job_id = await workplace.submit()
    name, checkpoint = "usa_writes_fenced_total", {"write": "checkpoint"}
    fenced = REGISTRY.get_sample_value(name, checkpoint) or 0.0

    async with workplace.worker(
        calling(model), watch=zombie, lease=60.0, renew_every=19.0
    ) as first:
        await eventually(model.at_work.is_set)
        await workplace.observer.run("UPDATE jobs SET lease_until = clock_timestamp()")
        (entry_id,) = await workplace.streams.entry_ids()
        # Its entry was reclaimed, and another worker has done the job.
        delivery = next(iter(first.processors))._claim.delivery
        assert delivery.entry_id == entry_id
        await workplace.streams.age(delivery, 100.0, consumer="stranger")
        async with workplace.worker(calling(ScriptedModel()), lease=3.0):
            assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
            await workplace.is_idle()
        result = (await workplace.job(job_id)).result
        model.released.set()
        await eventually(lambda: not first.processors)

    job = await workplace.job(job_id)
    assert (job.attempt, job.crash_count, job.result) == (2, 0, result)
    assert await workplace.terminal_events(job_id) == ["complete"]
    assert await workplace.ledger(job_id) == [(1, "draft", "finished"), (2, "draft", "finished")]
    assert REGISTRY.get_sample_value(name, checkpoint) == fenced + 1
