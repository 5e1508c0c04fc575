"""Server-sent events are read alike however the network cut them, each event once."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.client.event_stream import Reading, SseMessage, SseParser, StreamEvent

# Every line ending, comments, fields without a space or a colon, several lines of data,
# letters of one to four bytes.
WIRE = (
    '\ufeffevent: connected\ndata: {"status": "queued"}\n\n'
    ": hello\nretry: 1500\n\n"
    'id: 1-1\r\nevent: start\r\ndata: {"story":\r\ndata:  "é€😀"}\r\n\r\n'
    ":\r\r"
    'id:1-2\revent:iteration:start\rdata:{"a":\rdata\rdata:1}\r\r'
    "data: plain\r\n\r\n"
).encode()
MESSAGES = [
    SseMessage(None, "connected", '{"status": "queued"}'),
    SseMessage("1-1", "start", '{"story":\n "é€😀"}'),
    SseMessage("1-2", "iteration:start", '{"a":\n\n1}'),
    SseMessage(None, "message", "plain"),
]


def parsed(*chunks: bytes) -> list[SseMessage]:
    parser = SseParser()
    return [message for chunk in chunks for message in parser.feed(chunk)]


def test_a_stream_in_one_piece_is_read() -> None:
    assert parsed(WIRE) == MESSAGES


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_a_stream_in_small_pieces_is_read_alike(size: int) -> None:
    chunks = [WIRE[start : start + size] for start in range(0, len(WIRE), size)]
    assert parsed(*chunks) == MESSAGES


def test_a_cut_at_any_byte_changes_nothing() -> None:
    for cut in range(len(WIRE) + 1):
        assert parsed(WIRE[:cut], WIRE[cut:]) == MESSAGES


@given(st.lists(st.integers(0, len(WIRE)), max_size=12))
def test_any_cuts_change_nothing(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WIRE)]
    assert parsed(*(WIRE[start:end] for start, end in pairwise(edges))) == MESSAGES


def test_a_message_is_given_out_with_its_last_byte_and_not_before() -> None:
    parser = SseParser()
    assert parser.feed(b"data: 1\n") == []
    assert parser.feed(b"\n") == [SseMessage(None, "message", "1")]


def test_a_message_ended_by_a_carriage_return_does_not_wait_for_a_line_feed() -> None:
    parser = SseParser()
    assert parser.feed(b"data: 1\r\r") == [SseMessage(None, "message", "1")]
    assert parser.feed(b"\ndata: 2\r\n\r") == [SseMessage(None, "message", "2")]


def test_what_the_connection_cut_off_is_never_given_out() -> None:
    assert parsed(b'id: 1-1\nevent: complete\ndata: {"result"') == []
    assert parsed(b"id: 1-1\nevent: complete\ndata: {}\n") == []


def test_an_id_belongs_to_its_own_message_only() -> None:
    wire = b"id: 1-1\ndata: 1\n\ndata: 2\n\nid\ndata: 3\n\nid: 1-\x002\ndata: 4\n\n"
    assert [message.id for message in parsed(wire)] == ["1-1", None, None, None]


def test_an_id_without_data_leaks_into_no_later_message() -> None:
    assert parsed(b"id: 1-9\nevent: start\n\ndata: 1\n\n") == [SseMessage(None, "message", "1")]


def test_the_pause_before_reconnecting_is_noted_if_it_is_a_number() -> None:
    parser = SseParser()
    parser.feed(b"retry: soon\nretry: 1e3\nretry: -5\n")
    assert parser.retry_ms is None
    parser.feed(b"retry: 250\n\n")
    assert parser.retry_ms == 250


def test_bytes_that_are_no_text_are_shown_and_never_stop_the_stream() -> None:
    assert parsed(b"data: \xff\xc3\n\ndata: 2\n\n") == [
        SseMessage(None, "message", "\ufffd\ufffd"),
        SseMessage(None, "message", "2"),
    ]


def message(event_id: str | None, event_type: str = "start", data: str = "{}") -> SseMessage:
    return SseMessage(event_id, event_type, data)


def test_what_was_seen_is_dropped_and_snapshots_never_are() -> None:
    reading = Reading()
    snapshot = message(None, "connected")
    taken = [
        reading.take(each)
        for each in (message("1-1"), message("1-2"), snapshot, message("1-1"), message("1-2"))
    ]
    assert [event.id if event else "dropped" for event in taken] == [
        "1-1",
        "1-2",
        None,
        "dropped",
        "dropped",
    ]


def test_ids_are_compared_as_numbers_and_attempts_first() -> None:
    reading = Reading("1-9")
    assert reading.take(message("1-10")) is not None
    assert reading.take(message("2-1")) is not None
    assert reading.take(message("1-11")) is None
    assert str(reading.cursor) == "2-1"


def test_a_reader_starts_after_what_it_was_given() -> None:
    reading = Reading("1-2")
    assert reading.take(message("1-2")) is None
    assert reading.take(message("1-3")) == StreamEvent("1-3", "start", {})


@pytest.mark.parametrize("after", ["", "0", "1-", "1-1-1", "latest", "١-1"])
def test_only_an_event_id_can_be_started_after(after: str) -> None:
    with pytest.raises(ValueError, match="not an event id"):
        Reading(after)


@pytest.mark.parametrize("event_type", ["complete", "error", "cancelled"])
def test_the_last_event_ends_the_reading(event_type: str) -> None:
    reading = Reading()
    reading.take(message("1-1"))
    assert not reading.has_ended
    reading.take(message("1-2", event_type))
    assert reading.has_ended


@pytest.mark.parametrize("data", ["", "{", "[]", "1", "null", '"text"'])
def test_data_that_is_no_object_is_refused(data: str) -> None:
    with pytest.raises(ValueError, match="an event's data is not"):
        Reading().take(message("1-1", data=data))
