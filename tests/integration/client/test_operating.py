"""Looking at the queue, pausing and resuming it through the client: what it asks for."""

import orjson

from service.client.operator_client import OperatorClient
from tests.integration.client.conftest import KEY
from tests.integration.client.misbehaving import MisbehavingServer, refuses, says

ADMIN = "/api/v1/admin"


async def test_the_queue_is_asked_for_paused_and_resumed(server: MisbehavingServer) -> None:
    server.plays(says(200, {"paused": True}))

    async with OperatorClient(server.address, KEY) as operator:
        for answer in (
            await operator.queue(),
            await operator.pause(),
            await operator.pause("a test"),
            await operator.resume(),
        ):
            assert answer == {"paused": True}

    assert [(seen.method, seen.path) for seen in server.seen] == [
        ("GET", f"{ADMIN}/queue"),
        ("POST", f"{ADMIN}/pause"),
        ("POST", f"{ADMIN}/pause"),
        ("POST", f"{ADMIN}/resume"),
    ]
    bodies = [orjson.loads(seen.body) for seen in server.seen[1:3]]
    assert bodies == [{}, {"reason": "a test"}]
    assert server.seen[3].body == b""


async def test_a_pause_is_asked_for_until_there_is_an_answer(server: MisbehavingServer) -> None:
    server.plays(refuses(503, "UNAVAILABLE", Retry_After="0"), says(200, {"paused": True}))

    async with OperatorClient(server.address, KEY) as operator:
        await operator.pause()

    assert len(server.seen) == 2
