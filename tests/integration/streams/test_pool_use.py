"""A client of Redis says how many of its connections are lent."""

from service.streams.connection import once_client
from service.streams.pool_use import pool_use
from tests.fixtures.streams import JobStreams


async def test_a_client_tells_how_many_connections_are_in_use(job_streams: JobStreams) -> None:
    client = job_streams.client(once_client, "counted")
    before = pool_use(client)
    await client.ping()
    idle = pool_use(client)
    async with client.pubsub() as subscription:
        await subscription.subscribe("a-channel")
        lent = pool_use(client)

    assert (before.used, before.idle) == (0, 0)
    assert (idle.used, idle.idle) == (0, 1)
    assert (lent.used, lent.idle) == (1, 0)
    assert lent.most > 1
