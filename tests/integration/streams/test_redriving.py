"""The event that begins a generation: told once, alone in its stream, and fencing as before."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from service.domain.errors import Unavailable
from service.domain.events import BEGINNING, EventId, EventType
from service.domain.frames import Frame
from service.streams import keys, scripts
from service.streams.connection import Client, command_client, once_client
from service.streams.event_feed import RedisEventFeed
from service.streams.event_log import RedisEventLog
from service.supervision import Background
from tests.fixtures.event_logs import an_event
from tests.fixtures.waiting import eventually


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    client = command_client(redis_url, name="log")
    yield client
    await client.aclose()


@pytest.fixture
def log(client: Client, background: Background) -> RedisEventLog:
    return RedisEventLog(client, background)


async def write(
    log: RedisEventLog, job: UUID, attempt: int, *seqs: int, end: EventType | None = None
) -> str:
    """Append events of one attempt, the last of them terminal if `end` says so."""
    events = [an_event(job, attempt, seq) for seq in seqs]
    if end is not None:
        events[-1] = an_event(job, attempt, seqs[-1], end)
    return (await log.append(job, events, 60.0)).verdict


async def redrive(log: RedisEventLog, job: UUID, attempt: int, ttl: float = 600.0) -> str:
    """Begin a generation; returns the verdict and the stream's last id."""
    event = an_event(job, attempt, 1, EventType.RETRYING)
    answer = await log.redrive(job, event, ttl)
    return f"{answer.verdict} {answer.last}"


async def ids(log: RedisEventLog, job: UUID) -> list[str]:
    """All that is in the stream."""
    return [str(frame.id) for frame in await log.read_after(job, BEGINNING, 1000)]


async def test_the_stream_of_a_failed_job_begins_anew(log: RedisEventLog, client: Client) -> None:
    job = uuid4()
    await write(log, job, 1, 1, 2, 3)
    await write(log, job, 2, 1, 2, end=EventType.ERROR)

    assert await redrive(log, job, 3) == "appended 3-1"

    assert await ids(log, job) == ["3-1"]
    assert 60 < await client.ttl(keys.events(job)) <= 600


async def test_a_long_stream_is_trimmed_to_the_last_entry(log: RedisEventLog) -> None:
    job = uuid4()
    for first in range(1, 2001, 250):
        await write(log, job, 1, *range(first, first + 250))

    await redrive(log, job, 2)

    assert await ids(log, job) == ["2-1"]


async def test_repeating_it_changes_nothing(log: RedisEventLog) -> None:
    job = uuid4()
    await write(log, job, 1, 1, 2, end=EventType.ERROR)

    answers = [await redrive(log, job, 2) for _ in range(3)]

    assert answers == ["appended 2-1"] * 3
    assert await ids(log, job) == ["2-1"]


async def test_repeating_it_late_leaves_what_the_next_attempts_wrote(
    log: RedisEventLog, client: Client
) -> None:
    job = uuid4()
    await write(log, job, 1, 1, 2, end=EventType.ERROR)
    await redrive(log, job, 2)
    await write(log, job, 3, 1, 2)
    life = await client.ttl(keys.events(job))

    assert await redrive(log, job, 2, ttl=5000.0) == "fenced 3-2"

    assert await ids(log, job) == ["2-1", "3-1", "3-2"]
    assert await client.ttl(keys.events(job)) <= life


async def test_coming_after_the_next_attempt_it_still_forgets_the_generation_before(
    log: RedisEventLog,
) -> None:
    job = uuid4()
    await write(log, job, 1, 1, 2, end=EventType.ERROR)
    await write(log, job, 3, 1)

    assert await redrive(log, job, 2) == "fenced 3-1"

    assert await ids(log, job) == ["3-1"]


async def test_a_trimmed_stream_refuses_the_ids_that_it_has_had(log: RedisEventLog) -> None:
    job = uuid4()
    await write(log, job, 1, 1, 2)
    await redrive(log, job, 2)

    verdicts = [
        await write(log, job, 1, 3),
        await write(log, job, 1, 3, end=EventType.ERROR),
        await write(log, job, 2, 1),
        await write(log, job, 3, 2),
        await write(log, job, 3, 1, 2),
    ]

    # The event itself is there already; the next attempt begins with its first event.
    assert verdicts == ["fenced", "fenced", "appended", "hole", "appended"]
    assert await ids(log, job) == ["2-1", "3-1", "3-2"]


async def test_without_a_stream_it_is_the_first_event(log: RedisEventLog, client: Client) -> None:
    job = uuid4()

    assert await redrive(log, job, 4) == "appended 4-1"
    assert await write(log, job, 3, 9, end=EventType.ERROR) == "fenced"

    assert await ids(log, job) == ["4-1"]
    assert await client.ttl(keys.events(job)) > 60


async def test_a_stream_trimmed_to_nothing_still_tells_what_came_before(
    log: RedisEventLog, client: Client
) -> None:
    job = uuid4()
    await write(log, job, 5, 1)
    await client.xtrim(keys.events(job), maxlen=0, approximate=False)

    assert await redrive(log, job, 4) == "fenced 5-1"
    assert await ids(log, job) == []


async def test_it_is_published_once_and_like_any_other_event(
    log: RedisEventLog, redis_url: str, background: Background
) -> None:
    job, once = uuid4(), once_client(redis_url, name="feed")
    feed, heard = RedisEventFeed(once), list[tuple[UUID, Frame] | None]()

    async def listen() -> None:
        async for each in feed.frames():
            heard.append(each)

    background.spawn("listen", listen())
    await eventually(lambda: heard == [None], what="the feed is connected")
    await feed.subscribe(job)
    for _ in range(3):
        await redrive(log, job, 2)
    await write(log, job, 3, 1)

    await eventually(lambda: len(heard) >= 3, what="two frames")
    frames = [each[1] for each in heard if each is not None]
    assert frames == await log.read_after(job, BEGINNING, 10)
    assert [(str(frame.id), frame.type) for frame in frames] == [
        ("2-1", "retrying"),
        ("3-1", "iteration:start"),
    ]
    await background.cancel()
    await once.aclose()


async def test_redrives_and_late_writers_at_once_leave_one_beginning(log: RedisEventLog) -> None:
    for _ in range(10):
        job = uuid4()
        await write(log, job, 1, 1, 2)

        await asyncio.gather(
            write(log, job, 1, 3, end=EventType.ERROR),
            *(redrive(log, job, 2) for _ in range(3)),
            write(log, job, 1, 3, end=EventType.ERROR),
        )

        assert await ids(log, job) == ["2-1"]


async def test_a_server_that_has_forgotten_the_script_gets_it_again(
    log: RedisEventLog, client: Client
) -> None:
    for attempt in (1, 2):
        await client.script_flush()
        assert await redrive(log, job := uuid4(), attempt) == f"appended {attempt}-1"
        assert await ids(log, job) == [f"{attempt}-1"]
    assert await client.script_exists(scripts.redrive_events.sha) == [True]


async def test_without_a_server_it_is_unavailable(background: Background) -> None:
    nobody = command_client("redis://127.0.0.1:1", name="log", timeout=0.2)

    with pytest.raises(Unavailable):
        await redrive(RedisEventLog(nobody, background), uuid4(), 2)

    await nobody.aclose()


async def test_numbers_beyond_nine_stay_in_order(log: RedisEventLog) -> None:
    job = uuid4()
    await write(log, job, 9, *range(1, 13))

    assert await redrive(log, job, 10) == "appended 10-1"
    assert await log.last_ids([job]) == {job: EventId(10, 1)}
