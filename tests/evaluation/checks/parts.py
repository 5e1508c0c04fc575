"""What several checks look at."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from service.domain.events import EventType
from service.domain.intake import read_story
from service.domain.job import JsonObject
from service.domain.story import INTAKE, LIST_PATHS, STORY_PATHS, Story
from tests.evaluation.cases import Case

Events: TypeAlias = Sequence[tuple[EventType, JsonObject]]
Check: TypeAlias = Callable[[Case, JsonObject, Events], Iterator[str]]


def items_of(story: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Yield each item of a story as the API shows it, with its path."""
    for path in LIST_PATHS:
        group, _, leaf = path.rpartition(".")
        for item in (story[group] if group else story)[leaf]:
            yield path, item


def written_texts(case: Case, result: JsonObject) -> Iterator[tuple[str, str]]:
    """Yield the place and text of all that is in the final story and not the user's wording."""
    before, after = read_story(case.story), Story.from_json(result["story"])
    for path in STORY_PATHS:
        if after.line(path) != before.line(path):
            yield path, after.line(path)
    for _, item in items_of(result["story"]):
        if item["iteration"] != INTAKE or "original" in item:
            yield item["id"], item["text"]


def patches_of(result: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Yield each applied patch with its iteration."""
    for iteration in result["iterations"]:
        for patch in iteration["applied"]:
            yield iteration["id"], patch


def origins_of(result: JsonObject) -> dict[str, str]:
    """Return which iteration added each item, by id."""
    return {patch["id"]: name for name, patch in patches_of(result) if patch["op"] == "add"}


def count_of(number: int, thing: str) -> str:
    """Write a number with its noun."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
