"""A reader's place in a job's events, under every kind of loss."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.events import BEGINNING, EventId, Tail

LENGTHS = st.lists(st.integers(min_value=0, max_value=6), min_size=1, max_size=4)


@st.composite
def published(draw: st.DrawFn) -> tuple[list[EventId], list[EventId]]:
    """A stream of several attempts, and what pub/sub made of it."""
    stream = [
        EventId(attempt, seq)
        for attempt, length in enumerate(draw(LENGTHS), start=1)
        for seq in range(1, length + 1)
    ]
    kept = [each for each in stream for _ in range(draw(st.integers(0, 2)))]
    return stream, draw(st.permutations(kept))


def read(stream: Sequence[EventId], heard: Sequence[EventId], cursor: EventId) -> list[EventId]:
    """Read as PROTOCOL.md says: what does not follow directly is filled from the stream."""
    tail = Tail(cursor)
    delivered: list[EventId] = []

    def deliver(event_id: EventId) -> None:
        tail.advance(event_id)
        delivered.append(event_id)

    for pushed in heard:
        if tail.is_old(pushed):
            continue
        if pushed.attempt == tail.cursor.attempt and tail.accepts(pushed):
            deliver(pushed)
            continue
        # Published after it was appended, so the stream holds all before it.
        for event_id in stream[: stream.index(pushed) + 1]:
            if not tail.is_old(event_id):
                assert tail.accepts(event_id)
                deliver(event_id)
    return delivered


@given(case=published())
def test_losses_repeats_and_disorder_never_show(
    case: tuple[list[EventId], list[EventId]],
) -> None:
    stream, heard = case
    delivered = read(stream, heard, BEGINNING)
    assert delivered == stream[: len(delivered)]
    if heard:
        assert delivered[-1] == max(heard)


@given(case=published(), start=st.integers(min_value=0, max_value=24))
def test_a_reader_that_comes_back_gets_exactly_what_it_missed(
    case: tuple[list[EventId], list[EventId]], start: int
) -> None:
    stream, heard = case
    before = stream[: min(start, len(stream))]
    cursor = before[-1] if before else BEGINNING
    delivered = read(stream, heard, cursor)
    assert [*before, *delivered] == stream[: len(before) + len(delivered)]


@pytest.mark.parametrize(
    ("cursor", "event_id", "accepted"),
    [
        (EventId(1, 3), EventId(1, 4), True),
        (EventId(1, 3), EventId(1, 5), False),
        (EventId(1, 3), EventId(1, 3), False),
        (EventId(1, 3), EventId(2, 1), True),
        (EventId(1, 3), EventId(2, 2), False),
        (EventId(1, 3), EventId(7, 1), True),
        (EventId(2, 3), EventId(1, 1), False),
        (EventId(2, 3), EventId(1, 4), False),
        (BEGINNING, EventId(1, 1), True),
        (BEGINNING, EventId(1, 2), False),
    ],
)
def test_only_the_next_event_or_the_first_of_a_later_attempt_is_accepted(
    cursor: EventId, event_id: EventId, accepted: bool
) -> None:
    assert Tail(cursor).accepts(event_id) is accepted


def test_a_place_never_goes_back() -> None:
    tail = Tail(EventId(2, 5))
    tail.advance(EventId(2, 4))
    tail.advance(EventId(1, 9))
    assert tail.cursor == EventId(2, 5)
    assert tail.is_old(EventId(2, 5))
    assert tail.is_old(EventId(1, 1_000_000))
    assert not tail.is_old(EventId(2, 6))
