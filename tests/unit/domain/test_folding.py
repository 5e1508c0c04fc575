"""Events folded into what a reader shows."""

from typing import Any

from service.domain.folding import fold
from service.domain.intake import read_story
from service.domain.job import JsonObject

STORY = read_story("AC:\n- mine").as_json()


def start(*completed: JsonObject, story: JsonObject = STORY) -> tuple[str, JsonObject]:
    iterations = ["validation", "security"]
    return "start", {"iterations": iterations, "story": story, "completed": list(completed)}


def added(number: int, text: str) -> dict[str, Any]:
    item_id = f"AC-OUT-{number}"
    return {"op": "add", "path": "outcomeAcceptanceCriteria", "id": item_id, "text": text}


def progress(*patches: JsonObject) -> tuple[str, JsonObject]:
    return "iteration:progress", {"iteration": "validation", "patches": list(patches)}


def complete(iteration: str, *patches: JsonObject) -> tuple[str, JsonObject]:
    return "iteration:complete", {"iteration": iteration, "applied": list(patches)}


RESET = ("iteration:reset", {"iteration": "validation", "reason": "redo"})


def texts(*events: tuple[str, JsonObject]) -> list[str]:
    return [item.text for _, item in fold(events).story.every_item()]


def test_progress_adds_reset_drops_and_complete_replaces() -> None:
    assert texts(start(), progress(added(2, "a")), progress(added(3, "b"))) == ["mine", "a", "b"]
    assert texts(start(), progress(added(2, "a")), RESET) == ["mine"]
    assert texts(start(), progress(added(2, "a")), complete("validation", added(2, "c"))) == [
        "mine",
        "c",
    ]


def test_a_repeated_complete_changes_nothing() -> None:
    once = complete("validation", added(2, "a"))
    assert texts(start(), once, complete("security", added(3, "b")), once) == ["mine", "a", "b"]
    grown = fold([start(), once]).story.as_json()
    known = start(once[1], story=grown)
    assert texts(known, once) == ["mine", "a"]
    assert [each["iteration"] for each in fold([known, once]).completed] == ["validation"]


def test_a_start_or_a_resync_replaces_everything() -> None:
    before = (start(), progress(added(2, "a")))
    assert texts(*before, start()) == ["mine"]
    assert texts(*before, ("resync", start()[1])) == ["mine"]


def test_a_retry_drops_what_was_not_finished() -> None:
    assert texts(start(), progress(added(2, "a")), ("retrying", {})) == ["mine"]


def test_the_end_is_kept_with_its_data_and_unknown_events_are_skipped() -> None:
    view = fold(
        [start(), progress(added(2, "a")), ("waiting", {}), ("news", {}), ("error", {"code": "X"})]
    )
    assert (view.ending, view.final) == ("error", {"code": "X"})
    assert [item.text for _, item in view.story.every_item()] == ["mine"]
