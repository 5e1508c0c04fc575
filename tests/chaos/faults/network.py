"""Faults of the network between the service and its servers."""

import asyncio
from functools import partial

from tests.chaos.faults.injury import Injury, Kind
from tests.fixtures.proxy import Proxy

_PAUSE = 4.0


def _proxies(injury: Injury, server: str) -> list[Proxy]:
    return [proxy for name, proxy in injury.world.proxies.items() if name.endswith(server)]


async def delay(injury: Injury, *, server: str, seconds: float) -> None:
    """Everything takes longer for a while."""
    proxies = _proxies(injury, server)
    injury.evidence = sum(proxy.open_connections for proxy in proxies)
    for proxy in proxies:
        proxy.delay(seconds)
    await asyncio.sleep(_PAUSE)
    for proxy in proxies:
        proxy.delay(0.0)


async def cut(injury: Injury, *, server: str) -> None:
    """Every connection is reset."""
    for proxy in _proxies(injury, server):
        injury.evidence += proxy.open_connections
        proxy.cut()


async def freeze(injury: Injury, *, name: str) -> None:
    """Nothing passes for a while, and nothing is closed; new connections freeze, too."""
    proxy = injury.world.proxies[name]
    injury.evidence = proxy.open_connections
    proxy.freeze()
    await asyncio.sleep(_PAUSE)
    proxy.thaw()


async def lose_answers(injury: Injury, *, name: str) -> None:
    """What was asked is done, and the answer never comes: several times in a row."""
    proxy = injury.world.proxies[name]
    for _ in range(8):
        proxy.lose_next_answer()
        injury.evidence += 1
        await asyncio.sleep(0.3)


KINDS = {
    "redis-slow": Kind(partial(delay, server="redis", seconds=0.2), _PAUSE + 2),
    "postgres-slow": Kind(partial(delay, server="postgres", seconds=0.1), _PAUSE + 2),
    "redis-cut": Kind(partial(cut, server="redis"), 3.0),
    "postgres-cut": Kind(partial(cut, server="postgres"), 3.0),
    "worker-redis-frozen": Kind(partial(freeze, name="worker-redis"), _PAUSE + 3),
    "worker-postgres-frozen": Kind(partial(freeze, name="worker-postgres"), _PAUSE + 3),
    "api-postgres-frozen": Kind(partial(freeze, name="api-postgres"), _PAUSE + 3),
    "api-redis-frozen": Kind(partial(freeze, name="api-redis"), _PAUSE + 3),
    "worker-postgres-answers-lost": Kind(partial(lose_answers, name="worker-postgres"), 4.0),
    "api-postgres-answers-lost": Kind(partial(lose_answers, name="api-postgres"), 4.0),
    "worker-redis-answers-lost": Kind(partial(lose_answers, name="worker-redis"), 4.0),
}
