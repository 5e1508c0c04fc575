"""A client of Redis says how many of its connections are lent."""

from tests.fixtures.streams import JobStreams, pool_uses


async def test_a_client_tells_how_many_connections_are_in_use(job_streams: JobStreams) -> None:
    before, idle, lent = await pool_uses(job_streams)

    assert (before.used, before.idle) == (0, 0)
    assert (idle.used, idle.idle) == (0, 1)
    assert (lent.used, lent.idle) == (1, 0)
    assert lent.most > 1
