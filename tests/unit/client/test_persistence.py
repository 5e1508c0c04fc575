"""How long and when a client tries again."""

import asyncio

import pytest

from service.client.errors import ApiProblem, ClientFailure, UnexpectedReply, Unreachable
from service.client.persistence import Persistence

URL = "http://127.0.0.1:3000"
REFUSED = Unreachable(URL, "Connection refused")
CUT = Unreachable(URL, "it ended", was_sent=True)
AWAY = ApiProblem(503, "UNAVAILABLE", "away")


class Clock:
    """Time in which pausing takes no time at all."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def read(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """Time as the persistence sees it."""
    return Clock()


def persistence(clock: Clock, within: float = 10.0) -> tuple[Persistence, list[str]]:
    troubles: list[str] = []
    keep = Persistence(within, 1.0, {503}, troubles.append, clock=clock.read, sleep=clock.sleep)
    return keep, troubles


async def is_tried_again(
    keep: Persistence, failure: ClientFailure, *, answered: bool = True
) -> bool:
    try:
        await keep.wait_after(failure, has_answered=answered)
    except type(failure):
        return False
    return True


async def test_a_service_that_was_never_there_is_not_waited_for(clock: Clock) -> None:
    keep, troubles = persistence(clock)
    assert not await is_tried_again(keep, REFUSED, answered=False)
    assert (clock.pauses, troubles) == ([], [])


async def test_a_service_that_was_there_is_waited_for(clock: Clock) -> None:
    keep, troubles = persistence(clock)
    assert await is_tried_again(keep, REFUSED, answered=True)
    assert await is_tried_again(keep, CUT, answered=False)
    assert len(clock.pauses) == 2
    assert troubles == [f"{REFUSED}; trying again"]


@pytest.mark.parametrize(
    "failure",
    [ApiProblem(404, "NOT_FOUND", ""), ApiProblem(500, "X", ""), UnexpectedReply(URL, "HTML")],
)
async def test_what_will_not_pass_is_final(clock: Clock, failure: ClientFailure) -> None:
    keep, _ = persistence(clock)
    assert not await is_tried_again(keep, failure)
    assert clock.pauses == []


async def test_pauses_grow_and_end_in_time(clock: Clock) -> None:
    keep, troubles = persistence(clock, within=20.0)
    while await is_tried_again(keep, AWAY):
        pass
    assert all(0.5 * 2**n <= pause <= 2**n for n, pause in enumerate(clock.pauses))
    assert len(clock.pauses) >= 4
    assert clock.now <= 20.0
    assert len(troubles) == 1


async def test_no_pause_is_longer_than_half_a_minute(clock: Clock) -> None:
    keep, _ = persistence(clock, within=1e6)
    for _ in range(30):
        assert await is_tried_again(keep, AWAY)
    assert max(clock.pauses) <= 30.0


async def test_the_service_may_ask_for_a_longer_pause(clock: Clock) -> None:
    keep, _ = persistence(clock)
    assert await is_tried_again(keep, ApiProblem(503, "UNAVAILABLE", "", retry_after=7.0))
    assert clock.pauses == [7.0]


async def test_a_pause_beyond_the_patience_is_not_begun(clock: Clock) -> None:
    keep, _ = persistence(clock)
    assert not await is_tried_again(keep, ApiProblem(503, "UNAVAILABLE", "", retry_after=11.0))
    assert clock.pauses == []


async def test_a_success_makes_the_next_trouble_a_new_one(clock: Clock) -> None:
    keep, troubles = persistence(clock, within=5.0)
    for _ in range(4):
        assert await is_tried_again(keep, AWAY)
        keep.succeeded()
        clock.now += 4.0
    assert len(troubles) == 4
    assert max(clock.pauses) <= 1.0


async def test_a_cancelled_wait_ends_at_once() -> None:
    keep = Persistence(100.0, 50.0, (), lambda _: None)
    waiting = asyncio.create_task(keep.wait_after(CUT, has_answered=True))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_failure_that_was_given_in_is_raised(clock: Clock) -> None:
    keep, _ = persistence(clock)
    with pytest.raises(Unreachable) as raised:
        await keep.wait_after(REFUSED, has_answered=False)
    assert raised.value is REFUSED
