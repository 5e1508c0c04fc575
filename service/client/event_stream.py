"""Reads server-sent events from bytes, wherever they were cut."""

import codecs
import re
from dataclasses import dataclass

import orjson

from service.domain.events import EventId, EventType
from service.domain.job import JsonObject

_LINE_END = re.compile(r"\r\n|\r|\n")
_ENDINGS = frozenset(each.value for each in EventType if each.is_terminal)


@dataclass(frozen=True, slots=True)
class SseMessage:
    """One message as it was sent; `id` only if this message carried one."""

    id: str | None
    type: str
    data: str


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a job; `id` is None for snapshots."""

    id: str | None
    type: str
    data: JsonObject

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended with it."""
        return self.type in _ENDINGS


class SseParser:
    """Parses one connection's bytes as the HTML standard says.

    `retry_ms` is the pause before reconnecting that the server last asked for. A message cut
    off by the end of the connection is never returned.
    """

    def __init__(self) -> None:
        self.retry_ms: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._after_cr = False
        self._line: list[str] = []
        self._id: str | None = None
        self._type = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[SseMessage]:
        """Return the messages that the chunk completes."""
        text = self._decoder.decode(chunk)
        if not text:
            return []
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
        *lines, rest = _LINE_END.split(text)
        messages = []
        for line in lines:
            self._line.append(line)
            message = self._take("".join(self._line))
            self._line.clear()
            if message is not None:
                messages.append(message)
        self._line.append(rest)
        return messages

    def _take(self, line: str) -> SseMessage | None:
        if not line:
            return self._finish()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._type = value
        elif field == "id" and "\0" not in value:
            self._id = value or None
        elif field == "retry" and re.fullmatch(r"[0-9]{1,9}", value):
            self.retry_ms = int(value)
        return None

    def _finish(self) -> SseMessage | None:
        message = None
        if self._data:
            message = SseMessage(self._id, self._type or "message", "\n".join(self._data))
        self._id, self._type, self._data = None, "", []
        return message


class Reading:
    """How far one reader has come with a job's events, over all its connections."""

    def __init__(self, after: str | None = None) -> None:
        self.cursor = None if after is None else EventId.parse(after)
        if after is not None and self.cursor is None:
            raise ValueError(f"not an event id: {after!r}")
        self.has_ended = False

    def take(self, message: SseMessage) -> StreamEvent | None:
        """Return the message as an event, or None if the reader has had it already.

        Raises `ValueError` when its data is not a JSON object.
        """
        event_id = EventId.parse(message.id or "")
        if event_id is not None:
            if self.cursor is not None and event_id <= self.cursor:
                return None
            self.cursor = event_id
        data = _read_object(message.data)
        event = StreamEvent(str(event_id) if event_id else None, message.type, data)
        self.has_ended = event.is_terminal
        return event


def _read_object(text: str) -> JsonObject:
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError("an event's data is not JSON") from error
    if not isinstance(data, dict):
        raise ValueError("an event's data is not an object")
    return data
