"""Group commit: batches without a timer, and every item with its own answer."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from service.domain.errors import Unavailable
from service.group_commit import GroupCommit
from service.supervision import Background
from tests.fixtures.waiting import eventually


class Committer:
    """Answers each item with its double, when it is let; remembers the batches it got."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.errors: dict[int, BaseException] = {}
        self.answers_too_few = False

    async def __call__(self, items: Sequence[int]) -> Sequence[int | BaseException]:
        """Wait until open, then answer."""
        self.batches.append(list(items))
        await self.open.wait()
        if 0 in items:
            raise self.errors[0]
        answers = [self.errors.get(item, 2 * item) for item in items]
        return answers[:-1] if self.answers_too_few else answers

    @property
    def seen(self) -> list[int]:
        """Every item so far, in the order of its arrival."""
        return [item for batch in self.batches for item in batch]


@pytest.fixture
def committer() -> Committer:
    """A committer that lets everything through."""
    made = Committer()
    made.open.set()
    return made


def submit_all(commit: GroupCommit[int, int], items: Sequence[int]) -> list[asyncio.Task[int]]:
    """One task per item, in order."""
    return [asyncio.ensure_future(commit.submit(item)) for item in items]


async def test_an_idle_lane_takes_an_item_at_once(
    committer: Committer, background: Background
) -> None:
    commit = GroupCommit("test", committer, background)

    assert await commit.submit(21) == 42
    assert committer.batches == [[21]]


async def test_what_becomes_ready_together_is_committed_together_and_in_order(
    committer: Committer, background: Background
) -> None:
    commit = GroupCommit("test", committer, background)

    answers = await asyncio.gather(*submit_all(commit, range(1, 101)))

    assert answers == [2 * item for item in range(1, 101)]
    assert committer.batches == [list(range(1, 101))]


async def test_what_queues_during_a_round_trip_goes_with_the_next(
    committer: Committer, background: Background
) -> None:
    committer.open.clear()
    commit = GroupCommit("test", committer, background, lanes=1)
    first = submit_all(commit, [1])
    await eventually(lambda: committer.batches)

    later = submit_all(commit, [2, 3, 4])
    await asyncio.sleep(0)
    committer.open.set()

    assert await asyncio.gather(*first, *later) == [2, 4, 6, 8]
    assert committer.batches == [[1], [2, 3, 4]]


async def test_a_slow_round_trip_does_not_stop_the_other_lane(
    committer: Committer, background: Background
) -> None:
    committer.open.clear()
    commit = GroupCommit("test", committer, background, lanes=2)
    stuck = submit_all(commit, [1])
    await eventually(lambda: committer.batches)

    submit_all(commit, [2])
    await eventually(lambda: len(committer.batches) == 2)
    waiting = submit_all(commit, [3, 4])
    await asyncio.sleep(0)

    assert committer.batches == [[1], [2]]
    committer.open.set()
    assert await asyncio.gather(*stuck, *waiting) == [2, 6, 8]
    assert committer.batches[2] == [3, 4]


async def test_a_round_trip_for_many_is_not_logged_as_one_of_theirs(
    background: Background,
) -> None:
    bound: list[dict[str, Any]] = []

    async def commit_many(items: Sequence[int]) -> Sequence[int]:
        bound.append(get_contextvars())
        return items

    commit: GroupCommit[int, int] = GroupCommit("test", commit_many, background)
    with bound_contextvars(job="one of many"):
        await commit.submit(1)
        assert get_contextvars() != {}

    assert bound == [{}]


async def test_a_batch_has_a_largest_size(committer: Committer, background: Background) -> None:
    commit = GroupCommit("test", committer, background, lanes=1, max_batch=3)

    await asyncio.gather(*submit_all(commit, range(1, 8)))

    assert committer.batches == [[1, 2, 3], [4, 5, 6], [7]]


async def test_one_bad_item_fails_alone(committer: Committer, background: Background) -> None:
    committer.errors = {2: ValueError("bad")}
    commit = GroupCommit("test", committer, background)

    answers = await asyncio.gather(*submit_all(commit, [1, 2, 3]), return_exceptions=True)

    assert answers[0::2] == [2, 6]
    assert answers[1] is committer.errors[2]


async def test_a_failing_round_trip_fails_its_whole_batch_and_no_other(
    committer: Committer, background: Background
) -> None:
    committer.errors = {0: Unavailable("the server")}
    committer.open.clear()
    commit = GroupCommit("test", committer, background, lanes=1, max_batch=2)
    tasks = submit_all(commit, [1, 2, 0, 3, 4])

    committer.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert answers[:2] == [2, 4]
    assert answers[2:4] == [committer.errors[0]] * 2
    assert answers[4] == 8
    assert await commit.submit(5) == 10


async def test_a_wrong_number_of_answers_fails_the_batch(
    committer: Committer, background: Background
) -> None:
    committer.answers_too_few = True
    commit = GroupCommit("test", committer, background)

    answers = await asyncio.gather(*submit_all(commit, [1, 2]), return_exceptions=True)

    assert [type(answer) for answer in answers] == [AssertionError] * 2


async def test_an_abandoned_item_is_still_committed_and_its_neighbours_answered(
    committer: Committer, background: Background
) -> None:
    committer.open.clear()
    commit = GroupCommit("test", committer, background, lanes=1)
    before, abandoned, after = submit_all(commit, [1, 2, 3])
    await eventually(lambda: committer.batches)

    abandoned.cancel()
    queued = submit_all(commit, [4, 5])
    await asyncio.sleep(0)
    queued[0].cancel()
    committer.open.set()

    assert [await before, await after, await queued[1]] == [2, 6, 10]
    assert committer.seen == [1, 2, 3, 4, 5]
    assert abandoned.cancelled()
    assert queued[0].cancelled()


async def test_an_abandoned_item_that_fails_bothers_nobody(
    committer: Committer, background: Background
) -> None:
    committer.errors = {1: ValueError("bad")}
    committer.open.clear()
    commit = GroupCommit("test", committer, background, lanes=1)
    (abandoned,) = submit_all(commit, [1])
    await eventually(lambda: committer.batches)

    abandoned.cancel()
    committer.open.set()

    assert await commit.submit(2) == 4


async def test_nobody_waits_for_ever_when_the_background_ends(
    committer: Committer, background: Background
) -> None:
    committer.open.clear()
    commit = GroupCommit("test", committer, background, lanes=2, max_batch=1)
    tasks = submit_all(commit, [1, 2, 3, 4])
    await eventually(lambda: len(committer.batches) == 2)

    await background.cancel()

    async with asyncio.timeout(1):
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable] * 4


async def test_a_lane_cancelled_before_its_first_step_leaves_nobody_waiting(
    committer: Committer, background: Background
) -> None:
    commit = GroupCommit("test", committer, background, lanes=1)
    (first,) = submit_all(commit, [1])
    await asyncio.sleep(0)

    await background.cancel()

    async with asyncio.timeout(1):
        with pytest.raises(Unavailable):
            await first
        assert await commit.submit(2) == 4


async def test_lanes_are_given_back_after_every_kind_of_end(
    committer: Committer, background: Background
) -> None:
    committer.errors = {0: Unavailable("the server")}
    commit = GroupCommit("test", committer, background, lanes=2)
    for _ in range(5):
        await asyncio.gather(*submit_all(commit, [1, 0, 2]), return_exceptions=True)
    committer.open.clear()

    submit_all(commit, [1])
    await eventually(lambda: committer.batches[-1] == [1])
    submit_all(commit, [2])

    await eventually(lambda: committer.batches[-1] == [2])
    committer.open.set()


async def test_an_item_that_comes_while_its_lane_ends_is_not_forgotten(
    committer: Committer, background: Background
) -> None:
    commit = GroupCommit("test", committer, background, lanes=1)

    async with asyncio.timeout(5):
        answers = [await commit.submit(item) for item in range(1, 20)]

    assert answers == [2 * item for item in range(1, 20)]


async def test_under_load_every_item_gets_its_own_answer_and_round_trips_are_shared(
    background: Background,
) -> None:
    trips = 0

    async def commit_many(items: Sequence[int]) -> Sequence[int]:
        nonlocal trips
        trips += 1
        await asyncio.sleep(0.001)
        return [2 * item for item in items]

    commit = GroupCommit("test", commit_many, background)

    async def caller(first: int) -> None:
        for item in range(first, first + 20):
            assert await commit.submit(item) == 2 * item

    await asyncio.gather(*(caller(100 * n) for n in range(100)))

    assert trips <= 100
    await eventually(lambda: len(background) == 0)
