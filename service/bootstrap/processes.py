"""Whole processes: the API, a worker, or both in one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from service import __version__
from service.bootstrap.api import serving_api
from service.bootstrap.connections import Connections, open_connections
from service.bootstrap.listening import listening
from service.bootstrap.maintenance import build_maintenance_loops
from service.bootstrap.traces import exporting_traces
from service.bootstrap.watching import watching
from service.bootstrap.worker import running_pool
from service.domain.errors import Unavailable
from service.postgres.schema import SchemaMismatch, check_worker_role, pending_migrations
from service.settings import Settings
from service.streams.pending import RedisPending
from service.supervision import Background, Wakeup, retry_while_unavailable
from service.telemetry.metrics import BUILD
from service.telemetry.monitoring import create_monitoring_app
from service.worker.pool import WorkerPool

_START_PATIENCE = 30.0
_REDIS_PATIENCE = 2.0
_LAST_ROUNDS = 5.0
_LAST_WRITES = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A process at work; both addresses are base URLs, and a worker has no `address`.

    `crashed` is set when a task that must never end has ended: leave, with an error.
    """

    address: str | None
    metrics_address: str | None
    crashed: asyncio.Event


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    """What is under every process; `vital` runs the loops without which it is no use.

    `leaving` is set first of all when the process ends.
    """

    settings: Settings
    connections: Connections
    background: Background
    vital: Background
    wake_relay: Wakeup
    crashed: asyncio.Event
    leaving: asyncio.Event


@asynccontextmanager
async def _process(settings: Settings, name: str) -> AsyncIterator[_Process]:
    """Connect, check the schema and run maintenance inside this block.

    Raises `Unavailable`, `MissingAddress`, `MissingExtra` and `SchemaMismatch`.
    """
    BUILD.info({"version": __version__, "process": name})
    crashed = asyncio.Event()
    background, vital = Background(), Background(on_crash=crashed.set)
    async with (
        exporting_traces(settings, f"usa-{name}"),
        open_connections(settings, f"usa-{name}", background) as connections,
    ):
        await retry_while_unavailable(
            "schema", lambda: _check_schema(connections), patience=_START_PATIENCE
        )
        await _create_streams(connections)
        loops = build_maintenance_loops(settings, connections)
        for loop in loops:
            vital.spawn(loop.name, loop.run())
        try:
            async with watching(connections, vital):
                yield _Process(
                    settings=settings,
                    connections=connections,
                    background=background,
                    vital=vital,
                    wake_relay=loops[0].wake,
                    crashed=crashed,
                    leaving=asyncio.Event(),
                )
        finally:
            for loop in loops:
                loop.stop()
            await _end(vital, background)


async def _end(vital: Background, background: Background) -> None:
    try:
        # Rounds under way write in the background, too.
        await vital.drain(_LAST_ROUNDS)
        await background.drain(_LAST_WRITES)
    finally:
        await vital.cancel()
        await background.cancel()


async def _check_schema(connections: Connections) -> None:
    missing = await pending_migrations(connections.database)
    if missing:
        raise SchemaMismatch(f"migrations are missing ({', '.join(missing)}): run `usa migrate`")
    await check_worker_role(connections.database)


async def _create_streams(connections: Connections) -> None:
    """Create them before anybody reads them, so that a first start looks like any other."""
    # Without Redis this process starts all the same, and the reconciler creates them later.
    with suppress(Unavailable, TimeoutError):
        async with asyncio.timeout(_REDIS_PATIENCE):
            await RedisPending(connections.commands).ensure_streams()


@asynccontextmanager
async def running_api(settings: Settings) -> AsyncIterator[Running]:
    """Run the API with its monitoring port; leaving ends streams and waits for requests.

    Raises `OSError` for a busy port, `Unavailable`, `MissingAddress` and `SchemaMismatch`.
    """
    async with _process(settings, "api") as process, AsyncExitStack() as stack:
        metrics = await stack.enter_async_context(_monitoring(process))
        address = await stack.enter_async_context(_api(process, serve_metrics=False))
        _leave_slowly(process, stack)
        yield Running(address=address, metrics_address=metrics, crashed=process.crashed)


@asynccontextmanager
async def running_worker(settings: Settings) -> AsyncIterator[Running]:
    """Run a worker with its monitoring port; leaving drains and hands back.

    Raises as `running_api` does, and `MissingApiKey`.
    """
    async with _process(settings, "worker") as process, AsyncExitStack() as stack:
        # Around the pool: a worker that drains for a minute is still to be watched.
        metrics = await stack.enter_async_context(_monitoring(process))
        await stack.enter_async_context(_pool(process))
        stack.callback(process.leaving.set)
        yield Running(address=None, metrics_address=metrics, crashed=process.crashed)


@asynccontextmanager
async def running_all_in_one(settings: Settings) -> AsyncIterator[Running]:
    """Run API and worker in one process, with /metrics on the API's port.

    Raises as the two others do.
    """
    async with _process(settings, "all-in-one") as process, AsyncExitStack() as stack:
        address = await stack.enter_async_context(_api(process, serve_metrics=True))
        await stack.enter_async_context(_pool(process))
        _leave_slowly(process, stack)
        yield Running(address=address, metrics_address=address, crashed=process.crashed)


def _leave_slowly(process: _Process, stack: AsyncExitStack) -> None:
    # Whoever sends requests here learns meanwhile that it should not.
    stack.push_async_callback(asyncio.sleep, process.settings.drain_delay)
    stack.callback(process.leaving.set)


def _api(process: _Process, *, serve_metrics: bool) -> AbstractAsyncContextManager[str]:
    return serving_api(
        process.settings,
        process.connections,
        process.background,
        process.vital,
        wake_relay=process.wake_relay,
        is_leaving=process.leaving.is_set,
        serve_metrics=serve_metrics,
    )


def _pool(process: _Process) -> AbstractAsyncContextManager[WorkerPool]:
    return running_pool(
        process.settings,
        process.connections,
        process.background,
        process.vital,
        wake_relay=process.wake_relay,
    )


def _monitoring(process: _Process) -> AbstractAsyncContextManager[str]:
    app = create_monitoring_app(
        {"postgres": process.connections.probe_postgres},
        {"redis": process.connections.probe_redis},
        process.leaving.is_set,
    )
    return listening(app, process.settings.host, process.settings.metrics_port)
