"""The API's own role asks for what its callers own, so that row security is tried by every test."""

from collections.abc import AsyncIterator

import pytest

from tests.fixtures.database import Stores, api_database, open_stores


@pytest.fixture
async def stores(migrated_url: str) -> AsyncIterator[Stores]:
    """Every store; what the API does for an owner goes through a pool of its own role."""
    async with open_stores(migrated_url, confined=api_database(migrated_url)) as opened:
        yield opened
