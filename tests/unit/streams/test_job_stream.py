"""What the read loop makes of every shape of reply."""

from typing import Any, cast
from uuid import UUID

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis._parsers.helpers import parse_xread_unified

from service.domain.attempt import Delivery
from service.streams import keys
from service.streams.connection import Client
from service.streams.job_stream import RedisEntryWriter, RedisJobStream, ensure_group

JOB = UUID(int=7)


@pytest.fixture
def client() -> FakeAsyncRedis:
    client = FakeAsyncRedis(server=FakeServer(version=(7, 4)), protocol=2)
    # It ignores `legacy_responses=False`, so that this shape has to be asked for by hand.
    client.set_response_callback("XREADGROUP", parse_xread_unified)
    return client


@pytest.fixture
async def stream(client: FakeAsyncRedis) -> RedisJobStream:
    await ensure_group(client)
    return RedisJobStream(client, client, consumer="one", block=0.01, min_idle=60.0)


async def entry_ids(client: FakeAsyncRedis, stream: str = keys.JOBS) -> list[bytes]:
    return [entry[0] for entry in cast("list[Any]", await client.xrange(stream))]


async def test_entries_are_read_in_order_and_only_once(
    client: FakeAsyncRedis, stream: RedisJobStream
) -> None:
    writer = RedisEntryWriter(client)
    added = [await writer.add_entry(UUID(int=number), 0, None) for number in range(5)]
    assert [*await stream.read_new(2), *await stream.read_new(10)] == added
    assert await stream.read_new(10) == []


async def test_an_entry_is_read_with_its_job_its_trace_and_its_stream(
    client: FakeAsyncRedis, stream: RedisJobStream
) -> None:
    await client.xadd(keys.AGAIN, {"job": str(JOB), "trace": "00-a-b-01"}, id="5-1")
    await client.xadd(keys.JOBS, {"job": str(JOB), "trace": ""}, id="6-1")
    assert await stream.read_new(1) == [Delivery(keys.AGAIN, "5-1", JOB, "00-a-b-01")]
    assert await stream.read_new(1) == [Delivery(keys.JOBS, "6-1", JOB, None)]


@pytest.mark.parametrize(
    "fields",
    [{"job": "x"}, {"job": b"\xff"}, {"other": str(JOB)}, {"job": str(JOB)[:-1]}, {"": ""}],
)
async def test_garbage_is_dropped_and_the_rest_is_read(
    client: FakeAsyncRedis, stream: RedisJobStream, fields: dict[Any, Any]
) -> None:
    await client.xadd(keys.JOBS, fields, id="1-1")
    await client.xadd(keys.JOBS, {"job": str(JOB)}, id="1-2")
    await client.xadd(keys.JOBS, {"job": str(JOB), "trace": b"\xff\xfe"}, id="1-3")
    assert [each.entry_id for each in await stream.read_new(10)] == ["1-2", "1-3"]
    assert await entry_ids(client) == [b"1-2", b"1-3"]


class Answering:
    """Passes everything on to a real client but XAUTOCLAIM, which answers from a script."""

    def __init__(self, client: FakeAsyncRedis, *replies: list[Any]) -> None:
        self._client = client
        self._replies = list(replies)
        self.starts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def xautoclaim(self, *_: Any, start_id: str, **__: Any) -> list[Any]:
        self.starts.append(start_id)
        return self._replies.pop(0)


def reclaiming(client: FakeAsyncRedis, *replies: list[Any]) -> tuple[RedisJobStream, Answering]:
    answering = Answering(client, *replies)
    once = cast("Client", answering)
    return RedisJobStream(once, client, consumer="one", block=0.01, min_idle=60.0), answering


ENTRY = (b"1-2", {b"job": str(JOB).encode()})
TAKEN = Delivery(keys.AGAIN, "1-2", JOB)


@pytest.mark.parametrize(
    "reply",
    [
        [b"0-0", [ENTRY]],
        [b"0-0", [(None, None), ENTRY, (None, None)]],
        [b"0-0", [ENTRY], []],
        [b"0-0", [ENTRY], [b"1-1"]],
    ],
    ids=["6.2", "6.2 with deleted entries", "7.0", "7.0 with deleted entries"],
)
async def test_the_replies_of_old_and_new_servers_are_understood(
    client: FakeAsyncRedis, reply: list[Any]
) -> None:
    await ensure_group(client)
    stream, _ = reclaiming(client, reply, [b"0-0", []])
    assert await stream.reclaim(10) == [TAKEN]


async def test_a_scan_goes_on_from_its_cursor_until_it_is_back_at_the_start(
    client: FakeAsyncRedis,
) -> None:
    stream, server = reclaiming(client, [b"5-0", []], [b"9-0", [ENTRY]], [b"0-0", []], [b"0-0", []])
    assert await stream.reclaim(10) == [TAKEN]
    assert server.starts == ["0-0", "5-0", "9-0", "0-0"]


async def test_a_full_worker_takes_up_the_scan_where_it_left_it(client: FakeAsyncRedis) -> None:
    stream, server = reclaiming(client, [b"5-0", [ENTRY]], [b"0-0", []], [b"0-0", []])
    assert await stream.reclaim(1) == [TAKEN]
    assert await stream.reclaim(1) == []
    assert server.starts == ["0-0", "5-0", "0-0"]
