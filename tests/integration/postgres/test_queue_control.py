"""The pause is one answer for all; counts are of everybody's jobs."""

import asyncio
from datetime import datetime

from service.domain.events import EventId
from service.domain.transitions import Fail
from tests.fixtures.database import Observer, Stores
from tests.integration.postgres.steps import accepted, claimed, completed


async def test_a_queue_is_not_paused_at_first(stores: Stores) -> None:
    assert await stores.queue.current_pause() is None
    assert not await stores.queue.resume()


async def test_the_first_pause_holds_until_it_is_over(stores: Stores) -> None:
    first = await stores.queue.pause("acme/root", "maintenance")
    again = await stores.queue.pause("acme/other", None)

    assert (first.by, first.reason) == ("acme/root", "maintenance")
    assert isinstance(first.since, datetime)
    assert first == again == await stores.queue.current_pause()
    assert await stores.queue.resume()
    assert await stores.queue.current_pause() is None
    assert (await stores.queue.pause("acme/other", None)).reason is None


async def test_of_many_who_pause_at_once_all_hear_of_the_same_pause(stores: Stores) -> None:
    pauses = await asyncio.gather(*(stores.queue.pause(f"acme/{n}", None) for n in range(8)))
    assert len(set(pauses)) == 1


async def test_there_is_only_one_row(stores: Stores, observer: Observer) -> None:
    await stores.queue.pause("acme/root", None)
    assert await observer.value("SELECT count(*) FROM queue_control") == 1


async def test_jobs_are_counted_by_where_they_stand(stores: Stores, observer: Observer) -> None:
    empty = await stores.queue.count_jobs()
    queued, other = await accepted(stores), await accepted(stores)
    await observer.run(
        "UPDATE jobs SET created_at = clock_timestamp() - interval '90 seconds' WHERE id = $1",
        queued.id,
    )
    await observer.run("UPDATE jobs SET entry_id = '1-0' WHERE id = $1", other.id)
    later = await accepted(stores)
    await observer.run(
        "UPDATE jobs SET available_at = clock_timestamp() + interval '1 hour' WHERE id = $1",
        later.id,
    )
    await claimed(stores)
    long_ago, _ = await completed(stores), await completed(stores)
    await observer.run(
        "UPDATE jobs SET completed_at = clock_timestamp() - interval '61 minutes' WHERE id = $1",
        long_ago.job_id,
    )
    lost = (await claimed(stores)).fence
    await stores.attempts.record_if_current(lost, Fail("X", "y"), EventId(lost.attempt, 1))
    dropped = await accepted(stores)
    await stores.jobs.cancel_owned(dropped.id, dropped.owner.tenant_id, None)

    counts = await stores.queue.count_jobs()

    assert (empty.queued, empty.oldest_queued) == (0, None)
    assert (counts.queued, counts.waiting, counts.without_entry) == (3, 1, 2)
    assert (counts.processing, counts.failed) == (1, 1)
    assert counts.oldest_queued is not None
    assert 90 <= counts.oldest_queued < 3600
    ended = (counts.completed_last_hour, counts.failed_last_hour, counts.cancelled_last_hour)
    assert ended == (1, 1, 1)
