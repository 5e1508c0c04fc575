"""Scripts on a server that may forget them."""

import asyncio

from service.streams import scripts
from tests.fixtures.streams import JobStreams


async def test_a_script_is_loaded_when_the_server_has_forgotten_it(
    job_streams: JobStreams,
) -> None:
    consumer = job_streams.consumer()
    for _ in range(2):
        entry = await job_streams.add()
        await consumer.read_new(1)
        await job_streams.commands.script_flush()
        assert await consumer.acknowledge_if_owner([entry]) == 1
        assert await job_streams.commands.script_exists(scripts.ack_if_owner.sha) == [True]


async def test_a_script_forgotten_under_many_callers_still_acknowledges_each_entry_once(
    job_streams: JobStreams,
) -> None:
    entries = [await job_streams.add() for _ in range(50)]
    consumer = job_streams.consumer()
    await consumer.read_new(50)

    counts = await asyncio.gather(
        *(consumer.acknowledge_if_owner([entry]) for entry in entries),
        *(job_streams.commands.script_flush() for _ in range(20)),
    )
    assert sum(count for count in counts[:50]) == 50
    assert await job_streams.pending() == {}
