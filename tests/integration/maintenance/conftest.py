"""Maintenance of one process, on servers of which nothing but the test knows."""

import pytest

from tests.fixtures.database import Observer, Stores
from tests.fixtures.streams import JobStreams
from tests.integration.maintenance.upkeep import Upkeep


@pytest.fixture
async def upkeep(stores: Stores, observer: Observer, job_streams: JobStreams) -> Upkeep:
    """A relay and a reconciler; the streams are there and empty."""
    upkeep = Upkeep(stores, observer, job_streams)
    await upkeep.pending.ensure_streams()
    return upkeep
