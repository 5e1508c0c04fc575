"""Everything at once."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from tests.chaos.faults.injury import REDIS_LOST, Injury, Kind
from tests.chaos.world import WORKERS, World, signal_process

_DOWN = 3.0


async def break_everything(injury: Injury) -> None:
    """Redis, Postgres, an API and half of the workers die together and come back one by one."""
    world, dice = injury.world, injury.dice
    victims = [*dice.sample(world.workers, WORKERS // 2), dice.choice(world.apis)]
    os.kill(world.postgres.pid, signal.SIGQUIT)
    world.valkey.kill()
    for victim in victims:
        signal_process(victim, signal.SIGKILL)
    injury.evidence = len(victims) + 2
    heal: list[Callable[[], Awaitable[None]]] = [
        lambda: _start_redis(world),
        lambda: _start_postgres(world),
        *(lambda victim=victim: world.replace(victim) for victim in victims),
    ]
    dice.shuffle(heal)
    await asyncio.sleep(_DOWN)
    for start in heal:
        await start()
        await asyncio.sleep(dice.random())
    await injury.probe(within=REDIS_LOST)


async def _start_redis(world: World) -> None:
    world.valkey.start()


async def _start_postgres(world: World) -> None:
    world.postgres.stop()
    world.postgres.start()


KINDS = {"everything-at-once": Kind(break_everything, 24.0, REDIS_LOST)}
