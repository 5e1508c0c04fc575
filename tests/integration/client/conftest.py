"""The server that misbehaves, and a client that loses patience soon."""

from collections.abc import AsyncIterator

import pytest

from service.client.api_client import ApiClient
from tests.integration.client.misbehaving import MisbehavingServer

KEY = "usa_00000000_of-the-tests"


@pytest.fixture
async def server() -> AsyncIterator[MisbehavingServer]:
    """A started server without a script."""
    server = MisbehavingServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def troubles() -> list[str]:
    """What the client has told of."""
    return []


@pytest.fixture
async def client(server: MisbehavingServer, troubles: list[str]) -> AsyncIterator[ApiClient]:
    """A client of the server, with less patience than usual."""
    async with ApiClient(
        server.address,
        KEY,
        patience=1.0,
        reconnect_within=1.0,
        silence=0.3,
        on_trouble=troubles.append,
    ) as client:
        yield client
