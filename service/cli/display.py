"""Shows a job's events as they come: JSON for machines, lines or live progress for people."""

import sys
from types import TracebackType
from typing import Protocol, Self

from service.cli.output import note, print_json_line
from service.cli.progress import lines_of
from service.client.event_stream import StreamEvent


class Display(Protocol):
    """Where events go while a job is followed."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, event: StreamEvent) -> None:
        """Take in one event."""
        ...

    def note(self, text: str) -> None:
        """Tell something that is no event."""
        ...


class _Plain:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Tell something that is no event."""
        note(text)


class JsonLines(_Plain):
    """One JSON document per event, `{id, event, data}`, on standard output."""

    def show(self, event: StreamEvent) -> None:
        """Write one line."""
        print_json_line({"id": event.id, "event": event.type, "data": event.data})


class PlainLines(_Plain):
    """One line per thing that happens, on standard error: the result has the output to itself."""

    def show(self, event: StreamEvent) -> None:
        """Write what the event adds."""
        for line in lines_of(event):
            note(line)


def choose_display(*, as_json: bool) -> Display:
    """Return what suits whoever reads."""
    if as_json:
        return JsonLines()
    if sys.stderr.isatty():
        from service.cli.live import LiveProgress, can_redraw

        if can_redraw():
            return LiveProgress()
    return PlainLines()
