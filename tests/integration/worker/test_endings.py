"""Acknowledge last: commit, event, acknowledgement; a crash between any two is repaired."""

from typing import Any

import pytest

from service.domain.job import JobStatus
from service.streams import keys
from service.telemetry.metrics import REGISTRY
from tests.fixtures.models import HeldModel, ScriptedModel
from tests.fixtures.waiting import eventually
from tests.integration.worker.watching import Watch
from tests.integration.worker.workplace import LONG_LEASE, Workplace, calling


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_job_is_committed_then_told_then_acknowledged(workplace: Workplace) -> None:
    watch = Watch()
    job_id = await workplace.submit()

    async with workplace.worker(calling(ScriptedModel()), watch=watch):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
        await workplace.is_idle()

    order = [name for name in watch.done if name not in {"read", "reread", "release"}]
    assert order == ["claim", "open", "close", "record", "final", "clear", "acknowledge"]
    job = await workplace.job(job_id)
    (frame,) = await workplace.frames(job_id)
    assert str(frame.id) == job.final_event_id
    assert (await workplace.event(job_id, "complete"))["result"] == job.result


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_lost_reply_to_the_last_commit_is_recognised(
    workplace: Workplace, failures: int
) -> None:
    watch = Watch()
    watch.unheard["record"] = failures
    job_id = await workplace.submit("sleep", steps=2)
    fenced = counted("usa_writes_fenced_total", write="ending")

    async with workplace.worker(watch=watch, **LONG_LEASE):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
        await workplace.is_idle()

    assert (await workplace.job(job_id)).attempt == 1
    assert await workplace.terminal_events(job_id) == ["complete"]
    assert counted("usa_writes_fenced_total", write="ending") == fenced


async def test_a_lost_reply_to_a_retrys_commit_uses_up_one_error(workplace: Workplace) -> None:
    watch = Watch()
    watch.unheard["record"] = 2
    job_id = await workplace.submit("sleep", failures=1)

    async with workplace.worker(watch=watch, **LONG_LEASE):
        await eventually(lambda: watch.done.count("record") == 3)
        await workplace.is_idle()
        job = await workplace.job(job_id)
        assert (job.status, job.error_count, job.attempt) == (JobStatus.QUEUED, 1, 1)
        assert [frame.type for frame in await workplace.frames(job_id)][-1] == "retrying"
        await eventually(workplace.relay().run_once, what="the retry is due")
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]

    job = await workplace.job(job_id)
    assert (job.error_count, job.attempt) == (1, 2)


async def test_a_lost_reply_to_a_hand_backs_commit_hands_back_once(workplace: Workplace) -> None:
    watch = Watch()
    watch.unheard["record"] = 1
    model = HeldModel()
    job_id = await workplace.submit()

    async with workplace.worker(calling(model), watch=watch, shutdown_grace=0.1):
        await eventually(model.at_work.is_set)

    job = await workplace.job(job_id)
    assert (job.status, job.handback_count, job.error_count) == (JobStatus.QUEUED, 1, 0)
    assert len(await workplace.streams.entry_ids()) == 1


async def test_a_job_ends_without_redis_and_whoever_gets_its_entry_tells_of_it(
    workplace: Workplace,
) -> None:
    watch = Watch()
    watch.away["final"] = 1_000_000
    job_id = await workplace.submit("sleep")
    async with workplace.worker(watch=watch):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
    assert await workplace.terminal_events(job_id) == []
    assert len(await workplace.streams.pending()) == 1

    async with workplace.worker():
        await workplace.is_idle(within=8.0)

    assert await workplace.terminal_events(job_id) == ["complete"]


async def test_a_job_that_ended_without_redis_is_told_of_by_maintenance(
    workplace: Workplace,
) -> None:
    watch = Watch()
    watch.away["final"] = 1_000_000
    job_id = await workplace.submit("sleep")
    async with workplace.worker(watch=watch):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]

    reconciler = workplace.reconciler()

    async def is_told() -> bool:
        await reconciler.run_once()
        return await workplace.terminal_events(job_id) == ["complete"]

    await eventually(is_told, within=8.0)


async def test_a_lost_acknowledgement_costs_nothing_but_a_second_look(
    workplace: Workplace,
) -> None:
    watch = Watch()
    watch.away["acknowledge"] = 1
    lost = counted("usa_lazy_writes_lost_total", write="acknowledge")
    job_id = await workplace.submit("sleep")

    async with workplace.worker(watch=watch):
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
        await workplace.is_idle(within=8.0)

    assert (await workplace.job(job_id)).attempt == 1
    assert await workplace.terminal_events(job_id) == ["complete"]
    assert counted("usa_lazy_writes_lost_total", write="acknowledge") == lost + 1


async def test_a_hand_back_without_redis_is_left_to_the_relay(workplace: Workplace) -> None:
    watch, model = Watch(), HeldModel()
    watch.away["add"] = 1_000_000
    job_id = await workplace.submit()

    async with workplace.worker(calling(model), watch=watch, shutdown_grace=0.1):
        await eventually(model.at_work.is_set)

    job = await workplace.job(job_id)
    assert (job.status, job.handback_count) == (JobStatus.QUEUED, 1)
    await workplace.is_idle()
    await eventually(workplace.relay().run_once)
    assert len(await workplace.streams.entry_ids()) == 1


async def test_a_handed_back_job_is_rung_for_in_the_stream_that_is_read_first(
    workplace: Workplace,
) -> None:
    model = HeldModel()
    job_id = await workplace.submit()

    async with workplace.worker(calling(model), shutdown_grace=0.1) as pool:
        await eventually(model.at_work.is_set)

    assert await workplace.streams.commands.xlen(keys.JOBS) == 0
    entries: Any = await workplace.streams.commands.xrange(keys.AGAIN)
    ((entry_id, fields),) = entries
    assert fields[b"job"].decode() == str(job_id)
    row = await workplace.observer.row("SELECT entry_id FROM jobs WHERE id = $1", job_id)
    assert row["entry_id"] == entry_id.decode()
    assert await workplace.ledger(job_id) == [(1, "draft", "aborted")]
    consumers = await workplace.streams.commands.xinfo_consumers(keys.JOBS, keys.GROUP)
    assert pool.worker_id.encode() not in [consumer["name"] for consumer in consumers]
