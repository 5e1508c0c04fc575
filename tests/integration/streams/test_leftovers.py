"""Only what is nobody's is taken away, and all of that."""

import asyncio

import pytest

from service.domain.attempt import Delivery
from service.streams import keys
from service.streams import leftovers as leftovers_module
from service.streams.leftovers import RedisLeftovers
from service.streams.pending import RedisPending
from service.telemetry.metrics import GROUPS_CREATED
from tests.fixtures.streams import BOTH, JobStreams
from tests.fixtures.waiting import eventually


@pytest.fixture
def leftovers(job_streams: JobStreams) -> RedisLeftovers:
    return RedisLeftovers(job_streams.commands)


async def consumers(streams: JobStreams, stream: str = keys.JOBS) -> dict[str, int]:
    """Every consumer of a stream and how many entries it holds."""
    found = await streams.commands.xinfo_consumers(stream, keys.GROUP)
    return {each["name"].decode(): each["pending"] for each in found}


async def known(streams: JobStreams, *names: str) -> None:
    """Consumers of both streams; before Redis 7.2 only an entry makes one."""
    for stream in BOTH:
        for name in names:
            await streams.commands.xgroup_createconsumer(stream, keys.GROUP, name)


async def orphaned(streams: JobStreams, attempt: int = 0, count: int = 1) -> list[Delivery]:
    """Entries that were delivered to a consumer whom an operator has deleted."""
    added = [await streams.add(attempt) for _ in range(count)]
    await streams.consumer("doomed").read_new(count)
    for stream in BOTH:
        await streams.commands.xgroup_delconsumer(stream, keys.GROUP, "doomed")
    return added


async def test_a_consumer_goes_when_it_has_been_silent_and_holds_nothing(
    job_streams: JobStreams, leftovers: RedisLeftovers
) -> None:
    await known(job_streams, "first", "second")

    assert await leftovers.remove_dead_consumers(60.0) == 0
    assert await consumers(job_streams) == {"first": 0, "second": 0}

    removed = 0

    async def are_gone() -> bool:
        nonlocal removed
        removed += await leftovers.remove_dead_consumers(0.05)
        return removed >= 2 * 2

    await eventually(are_gone, within=5)
    assert [await consumers(job_streams, stream) for stream in BOTH] == [{}, {}]


async def test_a_silent_consumer_that_holds_an_entry_stays_with_it(
    job_streams: JobStreams, leftovers: RedisLeftovers
) -> None:
    await known(job_streams, "holder")
    entry = await job_streams.add()
    await job_streams.consumer("holder").read_new(1)

    # The other stream, in which it holds nothing, forgets it.
    assert await leftovers.remove_dead_consumers(0.0) == 1

    assert await consumers(job_streams) == {"holder": 1}
    assert await job_streams.pending() == {entry.entry_id: "holder"}


async def test_a_consumer_that_wakes_up_after_it_was_listed_is_kept(
    job_streams: JobStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are asked inside Redis: how long it was silent, and what it holds."""
    await known(job_streams, "late")
    reader = job_streams.consumer("late", block=0.01)

    class Slow(RedisLeftovers):
        """Lists everybody, and then the listed one reads again."""

        async def _silent(self, stream: str, idle_ms: int) -> list[bytes]:
            listed = await super()._silent(stream, 0)
            if stream == keys.JOBS:
                await job_streams.add()
            await reader.read_new(1)
            return listed

    assert await Slow(job_streams.commands).remove_dead_consumers(3600.0) == 0
    assert await Slow(job_streams.commands).remove_dead_consumers(0.0) <= 1
    assert (await consumers(job_streams))["late"] >= 1


async def test_a_blocked_reader_that_was_removed_is_given_the_next_entry_all_the_same(
    job_streams: JobStreams, leftovers: RedisLeftovers
) -> None:
    reading = asyncio.create_task(job_streams.consumer("alive", block=2.0).read_new(1))
    await eventually(job_streams.somebody_waits, what="the reader is blocked")
    await leftovers.remove_dead_consumers(0.0)
    entry = await job_streams.add()

    assert await reading == [entry]
    assert await job_streams.pending() == {entry.entry_id: "alive"}


@pytest.mark.parametrize("attempt", [0, 1])
async def test_an_entry_that_was_delivered_and_is_nobodys_is_deleted(
    job_streams: JobStreams, leftovers: RedisLeftovers, attempt: int
) -> None:
    await orphaned(job_streams, attempt)
    held = await job_streams.add(attempt)
    await job_streams.consumer("holder").read_new(1)
    waiting = await job_streams.add(attempt)

    assert await leftovers.delete_stray_entries() == 1

    assert await job_streams.entry_ids() == [held.entry_id, waiting.entry_id]
    assert await job_streams.pending() == {held.entry_id: "holder"}
    assert await job_streams.consumer("next").read_new(5) == [waiting]


async def test_an_acknowledgement_that_was_not_followed_by_its_deletion_is_made_up_for(
    job_streams: JobStreams, leftovers: RedisLeftovers
) -> None:
    entry = await job_streams.add()
    await job_streams.consumer().read_new(1)
    await job_streams.commands.xack(entry.stream, keys.GROUP, entry.entry_id)

    assert await leftovers.delete_stray_entries() == 1
    assert await job_streams.entry_ids() == []


async def test_many_go_page_by_page_and_held_ones_between_them_stay(
    job_streams: JobStreams, leftovers: RedisLeftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers_module, "_PAGE", 3)
    held = []
    for _ in range(4):
        await orphaned(job_streams, count=3)
        held.append(await job_streams.add())
        await job_streams.consumer("holder").read_new(1)

    assert await leftovers.delete_stray_entries() == 12
    assert await job_streams.entry_ids() == [entry.entry_id for entry in held]


async def test_a_round_is_bounded_and_the_next_one_finds_the_rest(
    job_streams: JobStreams, leftovers: RedisLeftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers_module, "_PAGE", 2)
    monkeypatch.setattr(leftovers_module, "_MOST_PAGES", 2)
    await orphaned(job_streams, count=5)

    assert [await leftovers.delete_stray_entries() for _ in range(3)] == [4, 1, 0]


async def test_a_group_made_anew_has_delivered_nothing(
    job_streams: JobStreams, leftovers: RedisLeftovers
) -> None:
    entries = await orphaned(job_streams, count=2)
    await job_streams.commands.xgroup_destroy(keys.JOBS, keys.GROUP)
    assert await leftovers.delete_stray_entries() == 0
    assert await leftovers.remove_dead_consumers(0.0) == 0

    await RedisPending(job_streams.commands).ensure_streams()
    assert await leftovers.delete_stray_entries() == 0

    assert await job_streams.consumer("next").read_new(5) == entries


async def test_somebody_elses_group_changes_nothing(
    job_streams: JobStreams, leftovers: RedisLeftovers
) -> None:
    await job_streams.commands.xgroup_create(keys.JOBS, "audit", id="0")
    waiting = await job_streams.add()
    await job_streams.commands.xreadgroup("audit", "auditor", {keys.JOBS: ">"})

    assert await leftovers.delete_stray_entries() == 0
    assert await job_streams.entry_ids() == [waiting.entry_id]


async def test_without_streams_there_is_nothing_to_take_away(
    job_streams: JobStreams, leftovers: RedisLeftovers
) -> None:
    await job_streams.commands.flushall()
    assert await leftovers.delete_stray_entries() == 0
    assert await leftovers.remove_dead_consumers(0.0) == 0
    assert await job_streams.commands.exists(*BOTH) == 0


@pytest.mark.parametrize("lost", ["a stream", "its group"])
async def test_the_loss_of_one_stream_is_told_once_by_whoever_misses_it_first(
    job_streams: JobStreams, lost: str
) -> None:
    pending = RedisPending(job_streams.commands)
    await pending.ensure_streams()
    created = GROUPS_CREATED.labels(stream="again")._value.get()

    async def lose() -> None:
        if lost == "a stream":
            await job_streams.commands.delete(keys.AGAIN)
        else:
            await job_streams.commands.xgroup_destroy(keys.AGAIN, keys.GROUP)

    await lose()
    assert [await pending.ensure_streams() for _ in range(2)] == [True, False]
    await lose()
    assert await job_streams.consumer().read_new(1) == []
    assert not await pending.ensure_streams()
    assert GROUPS_CREATED.labels(stream="again")._value.get() == created + 2
