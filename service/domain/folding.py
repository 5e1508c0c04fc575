"""Folds a job's events into what a reader should show; the end is always the stored result."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from service.domain.events import EventType
from service.domain.job import JsonObject
from service.domain.patches import Patch, enact
from service.domain.story import Story


@dataclass(frozen=True, slots=True)
class View:
    """A job as its events have told it so far.

    `base` is the story of the last `start` or snapshot, with `known` already in it;
    `since` are the iterations completed after it, `progress` the current one's patches.
    """

    iterations: tuple[str, ...] = ()
    base: Story = field(default_factory=Story)
    known: Mapping[str, JsonObject] = field(default_factory=dict)
    since: Mapping[str, JsonObject] = field(default_factory=dict)
    current: str | None = None
    progress: tuple[JsonObject, ...] = ()
    ending: EventType | None = None
    final: JsonObject | None = None

    @property
    def completed(self) -> list[JsonObject]:
        """The completed iterations, in order."""
        return [*self.known.values(), *self.since.values()]

    @property
    def story(self) -> Story:
        """The story with everything that is known to be accepted, the current draft included."""
        story = self.base
        for iteration, details in self.since.items():
            story = _enacted(story, iteration, details.get("applied", ()))
        return _enacted(story, self.current or "", self.progress)


def fold(events: Iterable[tuple[str, JsonObject]]) -> View:
    """Fold (event type, data) pairs; unknown types are skipped."""
    view = View()
    for event_type, data in events:
        if event_type in list(EventType):
            view = advance(view, EventType(event_type), data)
    return view


def advance(view: View, event_type: EventType, data: JsonObject) -> View:
    """Return the view after one more event."""
    match event_type:
        case EventType.START | EventType.CONNECTED | EventType.RESYNC:
            return _restarted(data)
        case EventType.ITERATION_START | EventType.ITERATION_RESET:
            return _replaced(view, current=data["iteration"], progress=())
        case EventType.ITERATION_PROGRESS:
            patches = (*view.progress, *data.get("patches", ()))
            return _replaced(view, current=data["iteration"], progress=patches)
        case EventType.ITERATION_COMPLETE:
            return _completed(view, data)
        case EventType.COMPLETE | EventType.ERROR | EventType.CANCELLED:
            return View(
                view.iterations, view.base, view.known, view.since, ending=event_type, final=data
            )
        case EventType.RETRYING:
            return _replaced(view, current=None, progress=())
        case EventType.WAITING:
            return view


def _restarted(data: JsonObject) -> View:
    return View(
        iterations=tuple(data.get("iterations", ())),
        base=Story.from_json(data.get("story") or {}),
        known={details["iteration"]: details for details in data.get("completed", ())},
        current=data.get("current"),
    )


def _completed(view: View, data: JsonObject) -> View:
    iteration = data["iteration"]
    if iteration in view.known:
        return _replaced(view, current=None, progress=())
    since = {**view.since, iteration: data}
    return View(view.iterations, view.base, view.known, since)


def _replaced(view: View, *, current: str | None, progress: tuple[JsonObject, ...]) -> View:
    return View(view.iterations, view.base, view.known, view.since, current, progress)


def _enacted(story: Story, iteration: str, patches: Iterable[JsonObject]) -> Story:
    for data in patches:
        patch = Patch.from_json(data)
        if patch is not None:
            story = enact(story, patch, iteration)
    return story
