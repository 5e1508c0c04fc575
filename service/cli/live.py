"""A job's progress redrawn in place, for a person at a terminal."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from service.cli.output import printable
from service.cli.progress import account, patch_line, waiting
from service.client.event_stream import StreamEvent
from service.domain.events import EventType
from service.domain.folding import View, advance

_LATEST = 6
_QUIET = frozenset({EventType.WAITING, EventType.RETRYING})


def can_redraw() -> bool:
    """Whether the terminal can move its cursor."""
    console = Console(stderr=True)
    return console.is_terminal and not console.is_dumb_terminal


class LiveProgress:
    """All iterations with their state, and the latest changes of the one at work."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._spinner = Spinner("dots", style="cyan")
        self._view = View()
        self._status = "waiting for the service"
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            refresh_per_second=10,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()
        self._console.print()

    def show(self, event: StreamEvent) -> None:
        """Fold one event into what is drawn."""
        if event.type not in list(EventType):
            return
        self._view = advance(self._view, EventType(event.type), event.data)
        self._status = _status(event)

    def note(self, text: str) -> None:
        """Print above what is drawn."""
        self._console.print(Text(printable(text), style="yellow"))

    def _render(self) -> RenderableType:
        return Group(self._iterations(), *self._latest())

    def _iterations(self) -> RenderableType:
        view = self._view
        if not view.iterations:
            return self._at_work(self._status)
        completed = {each["iteration"]: each for each in view.completed}
        table = Table.grid(padding=(0, 1))
        for iteration in view.iterations:
            name = Text(printable(iteration))
            if iteration in completed:
                done = Text(printable(account(completed[iteration])), style="dim")
                table.add_row(Text("✓", style="green"), name, done)
            elif iteration == view.current and view.ending is None:
                table.add_row(self._spinner, name, self._note())
            else:
                table.add_row(Text("·", style="dim"), name, "")
        if view.current is None and view.ending is None:
            return Group(table, self._at_work(self._status))
        return table

    def _latest(self) -> Iterator[RenderableType]:
        if self._view.ending is None:
            for patch in self._view.progress[-_LATEST:]:
                line = Text(printable(patch_line(patch)), style="dim")
                line.no_wrap, line.overflow = True, "ellipsis"
                yield line

    def _at_work(self, what: str) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        row.add_row(self._spinner, Text(printable(what)))
        return row

    def _note(self) -> Text:
        return Text(printable(self._status), style="cyan")


def _status(event: StreamEvent) -> str:
    data = event.data
    if event.type in _QUIET:
        return waiting(event)
    match event.type:
        case EventType.CONNECTED | EventType.RESYNC:
            return "waiting for a worker" if data.get("status") == "queued" else "working"
        case EventType.ITERATION_PROGRESS if data.get("phase") == "verify":
            return "checking what was written"
        case EventType.ITERATION_RESET:
            return f"writing this again ({data.get('reason')})"
        case _:
            return "writing"
