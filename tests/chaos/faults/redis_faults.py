"""Faults of Redis: lost, restarted, or meddled with by somebody who means well."""

import asyncio
import os
import signal
from functools import partial
from typing import Any
from uuid import uuid4

from service.streams import keys
from tests.chaos.faults.injury import REDIS_LOST, Injury, Kind
from tests.chaos.recovery import in_redis
from tests.chaos.world import World

_GROUP = keys.GROUP
_JOBS, _AGAIN = keys.JOBS, keys.AGAIN
_DOWN = 6.0


async def flush(injury: Injury) -> None:
    """FLUSHALL with jobs queued and running."""
    held = await in_redis(injury.world)
    await injury.world.redis.flushall()
    injury.hit(held)
    injury.evidence = 1
    await injury.probe(within=REDIS_LOST)


async def kill_redis(injury: Injury, *, down: float) -> None:
    """End the hard way: kill -9, and a restart from the append-only file after some seconds."""
    world = injury.world
    held = await in_redis(world)
    world.valkey.kill()
    await asyncio.sleep(down)
    world.valkey.start()
    injury.hit(held)
    injury.evidence = 1
    await injury.probe(within=REDIS_LOST)


async def freeze_redis(injury: Injury) -> None:
    """SIGSTOP for longer than an answer may take."""
    pid = injury.world.valkey.pid
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(4.0)
    os.kill(pid, signal.SIGCONT)
    injury.evidence = 1


async def delete_streams(injury: Injury) -> None:
    """DEL of both job streams, and their group with them."""
    held = await in_redis(injury.world)
    injury.evidence = await injury.world.redis.delete(_JOBS, _AGAIN)
    injury.held = held


async def destroy_group(injury: Injury) -> None:
    """XGROUP DESTROY: pending entries are nobody's any more."""
    redis = injury.world.redis
    injury.evidence = sum([await redis.xgroup_destroy(key, _GROUP) for key in (_JOBS, _AGAIN)])


async def delete_consumers(injury: Injury) -> None:
    """XGROUP DELCONSUMER of everybody: what was delivered is pending for nobody."""
    redis = injury.world.redis
    for key in (_JOBS, _AGAIN):
        consumers: Any = await redis.xinfo_consumers(key, _GROUP)
        for consumer in consumers:
            await redis.xgroup_delconsumer(key, _GROUP, consumer["name"])
            injury.evidence += 1


async def trim_jobs(injury: Injury) -> None:
    """XTRIM of both job streams to nothing."""
    for key in (_JOBS, _AGAIN):
        await injury.world.redis.xtrim(key, maxlen=0, approximate=False)
    injury.evidence = 1


async def delete_events(injury: Injury) -> None:
    """DEL of the event streams of everything that runs."""
    world = injury.world
    found = [key async for key in world.redis.scan_iter("usa:events:*", count=500)]
    injury.evidence = await world.redis.delete(*found) if found else 0


async def flush_scripts(injury: Injury) -> None:
    """SCRIPT FLUSH: every script has to be loaded again."""
    await injury.world.redis.script_flush()
    injury.evidence = 1


async def kill_clients(injury: Injury) -> None:
    """CLIENT KILL of every connection, subscriptions included."""
    for kind in ("normal", "pubsub"):
        killed = await injury.world.redis.client_kill_filter(_type=kind)
        injury.evidence += int(killed)


async def duplicate_entries(injury: Injury) -> None:
    """XADD of entries for jobs that are queued, running, finished, or nobody's."""
    world = injury.world
    rows = await world.rows("SELECT id FROM jobs ORDER BY random() LIMIT 40")
    ids = [*(row["id"] for row in rows), *(uuid4() for _ in range(5))]
    for job_id in ids:
        await world.redis.xadd(injury.dice.choice((_JOBS, _AGAIN)), {"job": str(job_id)})
    injury.evidence = len(ids)


async def garbage_entries(injury: Injury) -> None:
    """XADD of entries that no version of the service has written."""
    garbage: tuple[dict[Any, Any], ...] = (
        {"job": "nonsense"},
        {"task": "1"},
        {"job": "\x00" * 40},
        {"job": "x" * 50_000},
    )
    for fields in garbage:
        await injury.world.redis.xadd(_JOBS, fields)
        injury.evidence += 1


async def refuse_writes(injury: Injury) -> None:
    """A full memory: commands that need more are refused until it is lifted."""
    redis = injury.world.redis
    await redis.config_set("maxmemory", "1mb")
    await redis.config_set("maxmemory-policy", "noeviction")
    await asyncio.sleep(4.0)
    await redis.config_set("maxmemory", "0")
    injury.evidence = await _refused(injury.world)


async def _refused(world: World) -> int:
    errors: Any = await world.redis.info("errorstats")
    return int(errors.get("errorstat_OOM", {}).get("count", 0))


KINDS = {
    "redis-flushed": Kind(flush, 8.0, REDIS_LOST),
    "redis-killed": Kind(partial(kill_redis, down=0.0), 8.0, REDIS_LOST),
    "redis-down": Kind(partial(kill_redis, down=_DOWN), _DOWN + 8.0, REDIS_LOST),
    "redis-frozen": Kind(freeze_redis, 7.0),
    "redis-full": Kind(refuse_writes, 7.0),
    "job-streams-deleted": Kind(delete_streams, 5.0),
    "group-destroyed": Kind(destroy_group, 5.0),
    "consumers-deleted": Kind(delete_consumers, 5.0),
    "job-streams-trimmed": Kind(trim_jobs, 5.0),
    "event-streams-deleted": Kind(delete_events, 3.0),
    "scripts-flushed": Kind(flush_scripts, 2.0),
    "redis-clients-killed": Kind(kill_clients, 3.0),
    "entries-duplicated": Kind(duplicate_entries, 3.0),
    "entries-garbled": Kind(garbage_entries, 2.0),
}
