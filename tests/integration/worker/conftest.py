"""One workplace for every test: a migrated database, an empty Redis, and no worker yet."""

from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.bootstrap.connections import open_connections
from service.settings import Settings
from service.supervision import Background
from tests.fixtures.database import Observer, Stores
from tests.fixtures.streams import JobStreams
from tests.integration.worker.workplace import Workplace


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the workers log; not shown, because drawing a crash's locals takes a minute."""
    with capture_logs() as logs:
        yield logs


@pytest.fixture
async def workplace(
    migrated_url: str,
    redis_url: str,
    stores: Stores,
    observer: Observer,
    job_streams: JobStreams,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Workplace]:
    """Settings short enough for tests, in the proportions of the defaults."""
    settings = Settings(
        database_url=migrated_url,
        redis_url=redis_url,
        model="offline",
        lease=3.0,
        renew_every=0.9,
        reclaim_interval=0.3,
        block=0.3,
        shutdown_grace=5.0,
    )
    background = Background()
    async with open_connections(settings, "maintenance", background) as connections:
        place = Workplace(settings, stores, observer, job_streams, connections, monkeypatch)
        yield place
        await background.cancel()
    assert place.crashes == []
