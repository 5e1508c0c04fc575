"""One count of requests for all processes, on a real Redis."""

import asyncio
from typing import Any

import pytest

from service.domain.errors import Unavailable
from service.domain.rate_limit import RatePolicy, RateVerdict
from service.streams import keys
from service.streams.connection import once_client
from service.streams.rate_limit import RedisRateLimiter
from tests.fixtures.proxy import redis_proxy_to
from tests.fixtures.streams import JobStreams

FIVE = RatePolicy(name="submit", quota=5)
ANN = ("acme", "ann")
MINUTE_MS = 60_000


def limiter(streams: JobStreams, name: str = "one", **options: Any) -> RedisRateLimiter:
    """The limiter of one process."""
    return RedisRateLimiter(streams.client(once_client, name), **options)


async def exhaust(limits: RedisRateLimiter, holder: tuple[str, ...] = ANN) -> list[RateVerdict]:
    """Ask until the first refusal."""
    told = [await limits.take(FIVE, holder)]
    while told[-1].allowed:
        told.append(await limits.take(FIVE, holder))
    return told


async def backdate(streams: JobStreams, seconds: float) -> None:
    """Let Ann's requests look so much older."""
    key = keys.rate(FIVE.name, ANN)
    busy_until = await streams.commands.get(key)
    assert isinstance(busy_until, bytes)
    moved = int(busy_until) - int(seconds * 1_000_000)
    await streams.commands.set(key, moved, px=MINUTE_MS)


async def test_the_first_five_pass_and_the_sixth_is_refused(job_streams: JobStreams) -> None:
    told = await exhaust(limiter(job_streams))
    assert [each.allowed for each in told] == [True] * 5 + [False]
    assert [each.remaining for each in told] == [4, 3, 2, 1, 0, 0]
    assert all(0 < each.reset <= 12 for each in told)


async def test_all_processes_count_together_however_they_crowd(job_streams: JobStreams) -> None:
    limits = [limiter(job_streams, f"process-{i}", patience=30.0) for i in range(4)]
    told = await asyncio.gather(*(limits[i % 4].take(FIVE, ANN) for i in range(50)))
    assert sum(each.allowed for each in told) == 5
    assert sorted(each.remaining for each in told if each.allowed) == [0, 1, 2, 3, 4]


async def test_everybody_and_every_policy_has_a_count_of_its_own(job_streams: JobStreams) -> None:
    limits = limiter(job_streams)
    await exhaust(limits)
    reads = RatePolicy(name="read", quota=5)
    for policy, holder in ((FIVE, ("acme", "bob")), (FIVE, ("rival", "ann")), (reads, ANN)):
        assert (await limits.take(policy, holder)).remaining == 4


async def test_room_comes_back_one_by_one(job_streams: JobStreams) -> None:
    limits = limiter(job_streams)
    await exhaust(limits)
    await backdate(job_streams, 13)
    assert [each.allowed for each in await exhaust(limits)] == [True, False]
    await backdate(job_streams, 61)
    assert len(await exhaust(limits)) == 6


async def test_a_clock_that_was_set_back_locks_nobody_out(job_streams: JobStreams) -> None:
    limits = limiter(job_streams)
    await exhaust(limits)
    await backdate(job_streams, -86_400)
    told = await limits.take(FIVE, ANN)
    assert (told.allowed, told.remaining, told.reset) == (False, 0, 12.0)


async def test_what_was_used_is_forgotten_when_it_no_longer_counts(
    job_streams: JobStreams,
) -> None:
    await exhaust(limiter(job_streams))
    [key] = [key async for key in job_streams.commands.scan_iter("usa:rate:*")]
    assert 0 < await job_streams.commands.pttl(key) <= MINUTE_MS


@pytest.mark.parametrize("away", ["hangs", "refuses", "is full"])
async def test_whoever_asks_is_told_soon_that_redis_is_away(
    job_streams: JobStreams, away: str
) -> None:
    async with redis_proxy_to(job_streams.url) as (proxy, url):
        client = job_streams.client(once_client, "behind-proxy", url=url, timeout=60.0)
        limits = RedisRateLimiter(client, patience=0.2 if away == "hangs" else 60.0)
        if away == "hangs":
            proxy.freeze()
        elif away == "refuses":
            await proxy.close()
        else:
            await job_streams.commands.config_set("maxmemory", 1)
        try:
            with pytest.raises(Unavailable, match="Redis"):
                await asyncio.wait_for(limits.take(FIVE, ANN), 30)
        finally:
            await job_streams.commands.config_set("maxmemory", 0)


async def test_a_redis_that_refuses_to_count_is_as_good_as_away(job_streams: JobStreams) -> None:
    # As with rights that do not reach so far, which is another word but no other kind of answer.
    await job_streams.commands.rpush(keys.rate(FIVE.name, ANN), "not a count")
    with pytest.raises(Unavailable, match="Redis"):
        await limiter(job_streams).take(FIVE, ANN)


async def test_after_a_redis_that_hung_the_count_goes_on(job_streams: JobStreams) -> None:
    async with redis_proxy_to(job_streams.url) as (proxy, url):
        client = job_streams.client(once_client, "behind-proxy", url=url, timeout=60.0)
        proxy.freeze()
        with pytest.raises(Unavailable):
            await RedisRateLimiter(client, patience=0.2).take(FIVE, ANN)
        proxy.cut()
        proxy.thaw()
        assert (await RedisRateLimiter(client, patience=30.0).take(FIVE, ANN)).remaining == 4
