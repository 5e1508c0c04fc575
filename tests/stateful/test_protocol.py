"""Nothing is lost, nothing is paid twice and nothing rises again, whatever happens."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Final

import pytest
import structlog
from hypothesis import HealthCheck, Phase, reproduce_failure, settings
from hypothesis import __version__ as hypothesis_version
from hypothesis.stateful import run_state_machine_as_test

from tests.fixtures.servers import drop_database
from tests.stateful.machine import ProtocolMachine
from tests.stateful.virtual_time import create_database_with_own_clock
from tests.stateful.world import Servers, open_servers

# How many random examples to try instead of the usual ones; a failure prints its blob.
_EXAMPLES: Final = os.environ.get("USA_TEST_STATEFUL_EXAMPLES")
# A blob to try again.
_BLOB: Final = os.environ.get("USA_TEST_STATEFUL_BLOB")

_PROFILE: Final = settings(
    max_examples=int(_EXAMPLES or 150),
    stateful_step_count=60,
    derandomize=_EXAMPLES is None,
    database=None,
    deadline=None,
    print_blob=True,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One event loop for all examples."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
def no_logs() -> Iterator[None]:
    """Whatever is logged, thousands of times, is no news here."""

    def drop(*_: object) -> str:
        raise structlog.DropEvent

    configured = structlog.get_config()
    structlog.configure(processors=[drop])
    yield
    structlog.configure(**configured)


@pytest.fixture
def servers(
    loop: asyncio.AbstractEventLoop,
    no_logs: None,
    admin_database_url: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Servers]:
    """Both servers; what the code waits for is over at once."""
    monkeypatch.setattr("service.worker.event_writer._PROGRESS_EVERY", 0.0)
    monkeypatch.setattr("service.supervision._FIRST_PAUSE", 0.001)
    name, url = loop.run_until_complete(create_database_with_own_clock(admin_database_url))
    stack = AsyncExitStack()
    yield loop.run_until_complete(stack.enter_async_context(open_servers(url, redis_url)))
    loop.run_until_complete(stack.aclose())
    loop.run_until_complete(drop_database(admin_database_url, name))


@pytest.mark.timeout(0 if _EXAMPLES else 600)
def test_every_job_ends_once_whatever_happens(
    loop: asyncio.AbstractEventLoop, servers: Servers
) -> None:
    def machine() -> ProtocolMachine:
        return ProtocolMachine(loop, servers)

    again = reproduce_failure(hypothesis_version, _BLOB.encode())(machine) if _BLOB else machine
    run_state_machine_as_test(again, settings=_PROFILE)  # type: ignore[arg-type]
