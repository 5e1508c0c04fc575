"""What every process exports of itself, and one of them for all."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from service.bootstrap.connections import Connections
from service.maintenance.sampler import Sampler
from service.postgres.sampling import PostgresSampleStore
from service.streams.pool_use import pool_use
from service.streams.queue_counts import RedisStreamCounter
from service.supervision import Background, Periodic
from service.telemetry.loop_lag import watch_event_loop
from service.telemetry.pools import exported_pool

_SAMPLE_EVERY = 5.0


@asynccontextmanager
async def watching(connections: Connections, vital: Background) -> AsyncIterator[None]:
    """Export pools, the event loop's lag and, if it is this process' turn, the queue."""
    sampler = Sampler(
        PostgresSampleStore(connections.database),
        RedisStreamCounter(connections.once),
        interval=_SAMPLE_EVERY,
    )
    loop = Periodic("sample", sampler.run_once, _SAMPLE_EVERY)
    with ExitStack() as pools:
        pools.enter_context(exported_pool("postgres", connections.database.use))
        pools.enter_context(exported_pool("redis", lambda: pool_use(connections.commands)))
        pools.enter_context(exported_pool("redis_once", lambda: pool_use(connections.once)))
        tasks = [
            vital.spawn("loop_lag", watch_event_loop()),
            vital.spawn(loop.name, loop.run()),
        ]
        try:
            yield
        finally:
            loop.stop()
            await vital.cancel(tasks)
            await sampler.leave()
