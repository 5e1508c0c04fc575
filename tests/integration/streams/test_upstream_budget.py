"""One budget for all pods, on a real Redis."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from service.domain.errors import Unavailable
from service.domain.upstream import Cost, Observed, Rates
from service.ports.upstream import Demand, Settlement, Turn
from service.streams import keys
from service.streams.connection import once_client
from service.streams.upstream_budget import RedisUpstreamBudget
from tests.fixtures.proxy import redis_proxy_to
from tests.fixtures.streams import JobStreams

MODEL = "claude-sonnet-5-5"
# At once ten requests, a hundred thousand tokens in and ten thousand out.
LIMITS = Rates(requests=60, input=600_000, output=60_000)
SMALL = Cost(requests=1, input=10, output=10)


@dataclass
class Pods:
    """Workers that share one Redis."""

    streams: JobStreams
    budgets: dict[str, RedisUpstreamBudget] = field(default_factory=dict)
    tickets: int = 0

    def pod(self, name: str = "one") -> RedisUpstreamBudget:
        """A worker's budget."""
        if name not in self.budgets:
            self.budgets[name] = RedisUpstreamBudget(
                self.streams.client(once_client, name), peer=name
            )
        return self.budgets[name]

    def demand(self, user: str = "ann", cost: Cost = SMALL, **changes: Any) -> Demand:
        """A new call that wants to be made."""
        self.tickets += 1
        return Demand(
            **{
                "model": MODEL,
                "user": user,
                "ticket": f"ticket-{self.tickets}",
                "cost": cost,
                "configured": LIMITS,
                **changes,
            }
        )

    async def ask(self, demand: Demand, pod: str = "one") -> Turn:
        """Ask for a turn."""
        return await self.pod(pod).reserve(demand)

    async def exhaust(self, pod: str = "one") -> None:
        """Take all requests that may be made at once."""
        for _ in range(10):
            assert (await self.ask(self.demand(user="before"), pod)).granted

    async def set(self, **levels: float) -> None:
        """Set what is left, as if time had passed."""
        await self.streams.commands.hset(
            keys.budget(MODEL), mapping={f"level:{kind}": level for kind, level in levels.items()}
        )

    async def forget_places(self) -> None:
        """Let everybody in the queue look as if it had been silent for too long."""
        tickets = f"{keys.budget(MODEL)}:tickets"
        for ticket in await self.streams.commands.hkeys(tickets):
            await self.streams.commands.hset(tickets, ticket, "1 1 10 10")


@pytest.fixture
async def pods(job_streams: JobStreams) -> Pods:
    return Pods(job_streams)


async def test_all_pods_take_from_the_same_limits(pods: Pods) -> None:
    await pods.exhaust("one")
    turn = await pods.ask(pods.demand(), "two")
    assert not turn.granted
    assert 0 < turn.wait <= 1.0
    assert turn.limits == LIMITS
    assert turn.peers == 2


async def test_what_flows_in_is_a_minute_s_limit_per_minute(pods: Pods) -> None:
    await pods.exhaust()
    await pods.streams.commands.hincrbyfloat(keys.budget(MODEL), "at", -3000)
    demands = [pods.demand() for _ in range(4)]
    assert [(await pods.ask(demand)).granted for demand in demands] == [True, True, True, False]


@pytest.mark.parametrize("kind", ["requests", "input", "output"])
async def test_every_kind_of_limit_holds_calls_up(pods: Pods, kind: str) -> None:
    await pods.ask(pods.demand())
    await pods.set(**{kind: -100_000})
    turn = await pods.ask(pods.demand())
    limit = getattr(LIMITS, kind)
    needed = 100_000 + getattr(SMALL, kind)
    assert not turn.granted
    assert turn.wait == pytest.approx(needed * 60 / limit, rel=0.02)


async def test_a_user_s_single_call_does_not_wait_behind_another_s_many(pods: Pods) -> None:
    await pods.exhaust()
    many = [pods.demand("ann") for _ in range(20)]
    for demand in many:
        assert not (await pods.ask(demand)).granted
    single = pods.demand("bob")
    assert not (await pods.ask(single)).granted
    await pods.set(requests=2)
    assert not (await pods.ask(many[2])).granted
    assert (await pods.ask(single)).granted
    assert (await pods.ask(many[0])).granted


async def test_users_with_many_calls_each_take_turns(pods: Pods) -> None:
    await pods.exhaust()
    waiting = [pods.demand(user) for user in ("ann", "bob") for _ in range(6)]
    for demand in waiting:
        await pods.ask(demand)
    await pods.set(requests=6)
    passed = [demand.user for demand in waiting if (await pods.ask(demand)).granted]
    assert sorted(passed) == ["ann"] * 3 + ["bob"] * 3


async def test_who_used_it_alone_before_owes_nothing_to_who_comes_later(pods: Pods) -> None:
    for _ in range(10):
        assert (await pods.ask(pods.demand("ann"))).granted
    waiting = [pods.demand(user) for user in ("ann", "bob") for _ in range(6)]
    for demand in waiting:
        await pods.ask(demand)
    await pods.set(requests=6)
    passed = [demand.user for demand in waiting if (await pods.ask(demand)).granted]
    assert sorted(passed) == ["ann"] * 3 + ["bob"] * 3


async def test_a_large_call_is_not_overtaken_by_small_ones_for_ever(pods: Pods) -> None:
    await pods.exhaust()
    large = pods.demand("ann", Cost(requests=1, input=90_000, output=10))
    await pods.set(requests=10, input=50_000)
    assert not (await pods.ask(large)).granted
    assert not (await pods.ask(pods.demand("bob"))).granted
    await pods.set(input=90_100)
    assert (await pods.ask(large)).granted


async def test_a_call_larger_than_the_bucket_passes_when_it_is_full(pods: Pods) -> None:
    assert (await pods.ask(pods.demand(cost=Cost(requests=1, input=500_000, output=10)))).granted
    assert (await pods.ask(pods.demand())).wait == pytest.approx(40.0, rel=0.02)


async def test_who_asks_no_more_is_no_longer_in_the_way(pods: Pods) -> None:
    await pods.exhaust()
    for _ in range(5):
        await pods.ask(pods.demand("gone"))
    await pods.forget_places()
    await pods.set(requests=1)
    assert (await pods.ask(pods.demand("ann"))).granted


async def test_who_leaves_is_no_longer_in_the_way(pods: Pods) -> None:
    await pods.exhaust()
    gone = pods.demand("gone")
    await pods.ask(gone)
    await pods.pod().leave(MODEL, gone.ticket)
    await pods.set(requests=1)
    assert (await pods.ask(pods.demand("ann"))).granted


async def test_what_was_reserved_too_much_comes_back(pods: Pods) -> None:
    reserved = Cost(requests=1, input=100_000, output=10_000)
    assert (await pods.ask(pods.demand(cost=reserved))).granted
    assert not (await pods.ask(pods.demand("bob"))).granted
    used = Cost(requests=1, input=1000, output=100)
    await pods.pod().settle(Settlement(model=MODEL, reserved=reserved, used=used))
    left = await pods.streams.commands.hgetall(keys.budget(MODEL))
    assert float(left[b"level:input"]) == pytest.approx(99_000, rel=0.05)
    assert float(left[b"level:output"]) == pytest.approx(9900, rel=0.05)
    assert (await pods.ask(pods.demand("cleo"))).granted


async def test_what_comes_back_is_not_lost_because_the_bucket_was_full_again(pods: Pods) -> None:
    reserved = Cost(requests=1, input=100_000, output=10)
    assert (await pods.ask(pods.demand(cost=reserved))).granted
    await pods.streams.commands.hincrbyfloat(keys.budget(MODEL), "at", -10_000)
    assert (await pods.ask(pods.demand())).granted
    await pods.pod().settle(Settlement(model=MODEL, reserved=reserved, used=SMALL))
    await pods.ask(pods.demand())
    left = await pods.streams.commands.hget(keys.budget(MODEL), "level:input")
    assert float(left or 0) == pytest.approx(200_000, rel=0.05)


async def test_an_overload_makes_everybody_pause_and_a_shorter_one_does_not_end_it(
    pods: Pods,
) -> None:
    for pause in (30.0, 5.0):
        await pods.pod("one").settle(
            Settlement(model=MODEL, reserved=SMALL, used=Cost(), pause=pause)
        )
    turn = await pods.ask(pods.demand(configured=Rates()), "two")
    assert not turn.granted
    assert turn.wait == pytest.approx(30.0, rel=0.1)


async def test_after_an_overload_nothing_is_left_at_once(pods: Pods) -> None:
    await pods.ask(pods.demand())
    await pods.pod().settle(Settlement(model=MODEL, reserved=SMALL, used=Cost(), pause=0.001))
    await pods.streams.commands.hdel(keys.budget(MODEL), "pause")
    assert not (await pods.ask(pods.demand())).granted


async def test_the_limits_that_the_upstream_tells_hold_from_then_on(pods: Pods) -> None:
    told = Observed(limits=Rates(requests=6, input=700_000), remaining=Rates(requests=5))
    await pods.pod("one").observe(MODEL, told)
    turn = await pods.ask(pods.demand(), "two")
    assert turn.limits == Rates(requests=6, input=600_000, output=60_000)
    assert turn.granted
    assert (await pods.ask(pods.demand(), "two")).wait == pytest.approx(10.0, rel=0.05)


async def test_an_answer_that_says_nothing_of_limits_does_not_lift_them(pods: Pods) -> None:
    await pods.pod().observe(MODEL, Observed(limits=LIMITS, remaining=LIMITS))
    await pods.pod().observe(MODEL, Observed(limits=Rates(), remaining=Rates()))
    turn = await pods.ask(pods.demand(configured=Rates()))
    assert turn.limits == LIMITS


async def test_a_limit_of_nothing_is_not_believed(pods: Pods) -> None:
    told = Rates(requests=0, input=0, output=0)
    await pods.pod().observe(MODEL, Observed(limits=told, remaining=told))
    turn = await pods.ask(pods.demand(configured=Rates()))
    assert turn.granted
    assert turn.limits == Rates()


async def test_less_left_than_thought_holds_and_more_does_not(pods: Pods) -> None:
    await pods.ask(pods.demand())
    for left in (3, 1_000_000):
        await pods.pod().observe(
            MODEL, Observed(limits=LIMITS, remaining=Rates(requests=left, input=left))
        )
    levels = await pods.streams.commands.hgetall(keys.budget(MODEL))
    assert float(levels[b"level:requests"]) == 3
    assert float(levels[b"level:input"]) == 3


async def test_while_nobody_knows_the_limits_one_call_finds_out(pods: Pods) -> None:
    first, second = (pods.demand(configured=Rates()) for _ in range(2))
    assert (await pods.ask(first)).granted
    turn = await pods.ask(second)
    assert not turn.granted
    assert 0 < turn.wait <= 2.0
    await pods.pod().observe(MODEL, Observed(limits=Rates(), remaining=Rates()))
    assert (await pods.ask(second)).granted


async def test_models_do_not_share_a_budget(pods: Pods) -> None:
    await pods.exhaust()
    assert (await pods.ask(pods.demand(model="claude-haiku-5-5"))).granted


async def test_losing_everything_in_redis_grants_at_most_another_burst(pods: Pods) -> None:
    await pods.exhaust()
    await pods.streams.commands.flushall()
    turns = [await pods.ask(pods.demand()) for _ in range(12)]
    assert [turn.granted for turn in turns] == [True] * 10 + [False] * 2


async def test_nothing_stays_in_redis_for_ever(pods: Pods) -> None:
    await pods.exhaust()
    await pods.ask(pods.demand())
    found = await pods.streams.commands.keys("usa:budget:*")
    assert len(found) == 5
    assert all(f"{{{MODEL}}}" in str(key) for key in found)
    for key in found:
        assert 0 < await pods.streams.commands.pttl(key) <= 3_600_000


async def test_users_without_a_claim_on_the_queue_are_forgotten(pods: Pods) -> None:
    for number in range(10):
        assert (await pods.ask(pods.demand(f"user-{number}"))).granted
    await pods.set(requests=10)
    await pods.ask(pods.demand("user-0"))
    await pods.ask(pods.demand("user-0"))
    assert await pods.streams.commands.zcard(f"{keys.budget(MODEL)}:users") < 10


async def test_a_redis_that_is_away_is_said_to_be(pods: Pods) -> None:
    async with redis_proxy_to(pods.streams.url) as (proxy, url):
        budget = RedisUpstreamBudget(pods.streams.client(once_client, "cut", url=url), peer="cut")
        demand = pods.demand()
        await budget.reserve(replace(demand, ticket="first"))
        await proxy.close()
        with pytest.raises(Unavailable):
            await budget.reserve(demand)
        with pytest.raises(Unavailable):
            await budget.observe(MODEL, Observed(limits=LIMITS, remaining=LIMITS))
        with pytest.raises(Unavailable):
            await budget.settle(Settlement(model=MODEL, reserved=SMALL, used=SMALL))
        with pytest.raises(Unavailable):
            await budget.leave(MODEL, demand.ticket)
