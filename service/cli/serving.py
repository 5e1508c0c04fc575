"""Runs a server's event loop until a signal asks it to leave."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from service.cli.exit_codes import ExitCode
from service.cli.failures import Failure, cannot_listen
from service.cli.signals import leaving_on_signals
from service.settings import Settings
from service.supervision import Background
from service.telemetry.logs import configure_logs, get_log

if TYPE_CHECKING:
    from service.bootstrap import Running

Answer = TypeVar("Answer")

_log = get_log(__name__)


def run_process(process: "Callable[[Settings], AbstractAsyncContextManager[Running]]") -> None:
    """Run one of the processes that share servers; all it has to say goes into the log."""
    settings = _shared_settings()
    start_logs(settings)
    run_loop(serve(process(settings), settings, on_ready=_log_ready, on_asked=_log_asked))


def start_logs(settings: Settings) -> None:
    """Log as the settings say."""
    configure_logs(settings.log_level, as_json=settings.log_format == "json")


def run_loop(main: Coroutine[Any, Any, Answer]) -> Answer:
    """Run a coroutine in a new event loop, the fast one if it is installed."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


@asynccontextmanager
async def listening(
    process: "AbstractAsyncContextManager[Running]", settings: Settings
) -> "AsyncIterator[Running]":
    """Run a process inside this block; `Failure` if it gets no address."""
    async with AsyncExitStack() as stack:
        try:
            running = await stack.enter_async_context(process)
        except OSError as error:
            ports = {settings.port: "PORT", settings.metrics_port: "USA_METRICS_PORT"}
            raise cannot_listen(error, ports) from error
        yield running


async def serve(
    process: "AbstractAsyncContextManager[Running]",
    settings: Settings,
    *,
    on_ready: "Callable[[Running], None]",
    on_asked: Callable[[], None],
) -> None:
    """Run a process until it is asked to leave; `Failure` if it cannot start or breaks."""
    has_crashed = False
    with leaving_on_signals(on_asked) as leave:
        async with listening(process, settings) as running:
            on_ready(running)
            watch = Background()
            watch.spawn("crash_watch", _leave_after(running.crashed, leave.is_asked))
            await leave.wait()
            await watch.cancel()
            has_crashed = running.crashed.is_set()
    if has_crashed:
        raise Failure("a task that must never end has ended; see the log", ExitCode.CRASHED)


async def _leave_after(crashed: asyncio.Event, is_asked: asyncio.Event) -> None:
    await crashed.wait()
    is_asked.set()


def _shared_settings() -> Settings:
    settings = Settings()
    missing = [
        name.upper() for name in ("redis_url", "database_url") if getattr(settings, name) is None
    ]
    if missing:
        raise Failure(
            f"set {' and '.join(missing)}, or run everything on this machine with `usa up`",
            ExitCode.SETTINGS,
        )
    return settings


def _log_ready(running: "Running") -> None:
    _log.info("ready", address=running.address, metrics=running.metrics_address)


def _log_asked() -> None:
    _log.info("leaving")
