"""Events as the bytes that readers get: one server-sent event each (WHATWG HTML, 9.2)."""

from dataclasses import dataclass

import orjson

from service.domain.events import EventId, EventType, JobEvent
from service.domain.job import JsonObject

_TERMINAL = frozenset(each.value for each in EventType if each.is_terminal)


@dataclass(frozen=True, slots=True)
class Frame:
    """One rendered event; `data` is JSON in one line, and snapshots have no id."""

    id: EventId | None
    type: str
    data: bytes

    @property
    def is_terminal(self) -> bool:
        """Whether it ends its generation of the job."""
        return self.type in _TERMINAL

    @property
    def wire(self) -> bytes:
        """The bytes on the wire, the same for every reader."""
        head = b"" if self.id is None else b"id: %s\n" % str(self.id).encode()
        return b"%sevent: %s\ndata: %s\n\n" % (head, self.type.encode(), self.data)


def render(event: JobEvent) -> Frame:
    """Render a durable event."""
    return Frame(event.id, event.type.value, orjson.dumps(event.data))


def render_snapshot(event_type: EventType, data: JsonObject) -> Frame:
    """Render an event without an id, so that no client takes it for a place in the stream."""
    return Frame(None, event_type.value, orjson.dumps(data))


def parse_frame(wire: bytes) -> Frame | None:
    """Read back what `wire` wrote of a durable event; anything else is None."""
    lines = wire.split(b"\n")
    if len(lines) != 5 or lines[3:] != [b"", b""]:
        return None
    values = []
    for line, label in zip(lines, (b"id: ", b"event: ", b"data: "), strict=False):
        if not line.startswith(label):
            return None
        values.append(line[len(label) :])
    event_id = EventId.parse(values[0].decode("ascii", "replace"))
    if event_id is None:
        return None
    return Frame(event_id, values[1].decode("utf-8", "replace"), values[2])
