"""While Redis is away each process counts alone, with the same policies, and says so once."""

from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from service.api import rates
from service.api.rates import Rates
from service.domain.errors import Unavailable
from service.domain.rate_limit import RatePolicy, RateVerdict, verdict
from service.telemetry.logs import get_log
from service.telemetry.metrics import RATES_JUDGED_ALONE

FIVE = RatePolicy(name="submit", quota=5)
ANN = ("acme", "ann")
SHARED = verdict(FIVE, True, 60_000_000)


@dataclass
class Redis:
    """A count of all processes that can be away; the time is the one of the test."""

    is_away: bool = False
    now: float = 1_000.0
    asked: int = 0
    rates: Rates = field(init=False)

    def __post_init__(self) -> None:
        self.rates = Rates(self, clock=lambda: self.now, ask_again=1.0, most_remembered=3)

    async def take(self, policy: RatePolicy, holder: tuple[str, ...]) -> RateVerdict:
        """Answer, or be away."""
        self.asked += 1
        if self.is_away:
            raise Unavailable("Redis")
        return SHARED

    async def allowed(self, count: int, holder: tuple[str, ...] = ANN) -> list[bool]:
        """Let so many requests be judged."""
        return [(await self.rates.take(FIVE, holder)).allowed for _ in range(count)]


async def test_while_redis_answers_nobody_counts_alone() -> None:
    redis = Redis()
    assert [await redis.rates.take(FIVE, ANN) for _ in range(9)] == [SHARED] * 9


async def test_alone_the_same_policy_holds() -> None:
    redis, before = Redis(is_away=True), RATES_JUDGED_ALONE._value.get()
    assert await redis.allowed(6) == [True] * 5 + [False]
    told = await redis.rates.take(FIVE, ANN)
    assert (told.remaining, told.reset) == (0, 12.0)
    redis.now += 12
    assert await redis.allowed(2) == [True, False]
    assert RATES_JUDGED_ALONE._value.get() == before + 9


async def test_alone_everybody_has_a_count_of_their_own() -> None:
    redis = Redis(is_away=True)
    await redis.allowed(6)
    assert await redis.allowed(6, ("acme", "bob")) == [True] * 5 + [False]
    told = await redis.rates.take(RatePolicy(name="read", quota=600), ANN)
    assert told.remaining == 599


async def test_a_redis_that_is_away_is_asked_once_a_second() -> None:
    redis = Redis(is_away=True)
    await redis.allowed(50)
    assert redis.asked == 1
    redis.now += 1
    await redis.allowed(50)
    assert redis.asked == 2


async def test_a_redis_that_is_back_counts_again() -> None:
    redis = Redis(is_away=True)
    await redis.allowed(6)
    redis.is_away = False
    redis.now += 1
    assert [await redis.rates.take(FIVE, ANN) for _ in range(3)] == [SHARED] * 3
    assert redis.asked == 1 + 3


async def test_an_outage_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_log", get_log("test"))
    redis = Redis(is_away=True)
    with capture_logs() as lines:
        for _ in range(3):
            await redis.allowed(5)
            redis.now += 1
        redis.is_away = False
        await redis.allowed(1)
        redis.is_away = True
        await redis.allowed(1)
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("rates_judged_alone", "warning")
    ] * 2


async def test_only_so_many_are_remembered_those_seen_last() -> None:
    redis = Redis(is_away=True)
    for name in ("a", "b", "c", "a", "d"):
        await redis.allowed(5, (name,))
    assert set(redis.rates._busy_until) == {("submit", (name,)) for name in ("c", "a", "d")}
