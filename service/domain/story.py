"""A user story as a structure: its sentence, and numbered items in named lists."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from service.domain.job import JsonObject

AS_A = "story.asA"
I_WANT = "story.iWant"
SO_THAT = "story.soThat"
USER_VISIBLE = "userVisibleBehavior"
OUTCOME_CRITERIA = "outcomeAcceptanceCriteria"
SYSTEM_CRITERIA = "systemAcceptanceCriteria"
PERFORMANCE = "implementationNotes.performance"
LOADING_STATES = "implementationNotes.loadingStates"
SECURITY = "implementationNotes.security"
TELEMETRY = "implementationNotes.telemetry"
OPEN_QUESTIONS = "openQuestions"
EDGE_CASES = "edgeCases"
NON_GOALS = "nonGoals"

PREFIXES: Mapping[str, str] = {
    USER_VISIBLE: "UVB-",
    OUTCOME_CRITERIA: "AC-OUT-",
    SYSTEM_CRITERIA: "AC-SYS-",
    PERFORMANCE: "IMPL-PERF-",
    LOADING_STATES: "IMPL-LOAD-",
    SECURITY: "IMPL-SEC-",
    TELEMETRY: "IMPL-TEL-",
    OPEN_QUESTIONS: "QUESTION-",
    EDGE_CASES: "EDGE-",
    NON_GOALS: "NON-GOAL-",
}
STORY_PATHS = (AS_A, I_WANT, SO_THAT)
LIST_PATHS = tuple(PREFIXES)
PATHS = (*STORY_PATHS, *LIST_PATHS)

INTAKE = "intake"
MAX_ITEMS = 150
MAX_TEXT = 500

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
# They turn the line around them, or hide what a program reads and a person does not see.
_DECEPTIVE = re.compile("[\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
_SPACES = re.compile(r"\s+")
_OUTER_MARKS = " .,;:!?'\"`*_-"


@dataclass(frozen=True, slots=True)
class Item:
    """One statement of a story; `original` is what the user wrote, if it was reworded."""

    id: str
    text: str
    iteration: str
    merged_from: tuple[str, ...] = ()
    original: str | None = None

    @property
    def is_from_the_user(self) -> bool:
        """Whether it was in the submitted text, and so may never be removed."""
        return self.iteration == INTAKE

    def reworded(self, text: str) -> "Item":
        """Return it with another text; the user's own wording is kept."""
        original = self.original
        if self.is_from_the_user and original is None and text != self.text:
            original = self.text
        return replace(self, text=text, original=original)

    def as_json(self) -> JsonObject:
        """`{id, text, iteration, mergedFrom?, original?}`."""
        shown: JsonObject = {"id": self.id, "text": self.text, "iteration": self.iteration}
        if self.merged_from:
            shown["mergedFrom"] = list(self.merged_from)
        if self.original is not None:
            shown["original"] = self.original
        return shown

    @classmethod
    def from_json(cls, data: JsonObject) -> "Item":
        """Read back what `as_json` wrote."""
        return cls(
            id=data["id"],
            text=data["text"],
            iteration=data["iteration"],
            merged_from=tuple(data.get("mergedFrom", ())),
            original=data.get("original"),
        )


@dataclass(frozen=True, slots=True)
class Story:
    """A story; `issued` counts the ids given out per list, so that none is used twice."""

    title: str = ""
    sentence: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, tuple[Item, ...]] = field(default_factory=dict)
    issued: Mapping[str, int] = field(default_factory=dict, compare=False)

    def line(self, path: str) -> str:
        """Return one part of the sentence, or an empty text."""
        return self.sentence.get(path, "")

    def items(self, path: str) -> tuple[Item, ...]:
        """Return one list."""
        return self.lists.get(path, ())

    def every_item(self) -> Iterator[tuple[str, Item]]:
        """Yield each item with its path."""
        for path in LIST_PATHS:
            for item in self.items(path):
                yield path, item

    def find(self, path: str, item_id: str) -> Item | None:
        """Look an item up in one list."""
        return next((item for item in self.items(path) if item.id == item_id), None)

    def next_id(self, path: str) -> str:
        """Return the id that the next item of a list gets."""
        return f"{PREFIXES[path]}{self.issued.get(path, 0) + 1}"

    def with_line(self, path: str, text: str) -> "Story":
        """Return the story with one part of its sentence set."""
        return replace(self, sentence={**self.sentence, path: text})

    def with_item(self, path: str, item: Item) -> "Story":
        """Return the story with one more item."""
        issued = max(self.issued.get(path, 0), _number(item.id))
        return replace(
            self,
            lists={**self.lists, path: (*self.items(path), item)},
            issued={**self.issued, path: issued},
        )

    def with_list(self, path: str, items: tuple[Item, ...]) -> "Story":
        """Return the story with one list exchanged; ids given out stay given out."""
        return replace(self, lists={**self.lists, path: items})

    def as_json(self) -> JsonObject:
        """The structured story as the API shows it, every list present."""
        shown: JsonObject = {
            "title": self.title,
            "story": {_leaf(path): self.line(path) for path in STORY_PATHS},
        }
        for path in LIST_PATHS:
            group, _, leaf = path.rpartition(".")
            place = shown.setdefault(group, {}) if group else shown
            place[leaf] = [item.as_json() for item in self.items(path)]
        return shown

    @classmethod
    def from_json(cls, data: JsonObject) -> "Story":
        """Read back what `as_json` wrote."""
        lists = {path: tuple(map(Item.from_json, _at(data, path) or ())) for path in LIST_PATHS}
        return cls(
            title=data.get("title", ""),
            sentence={path: text for path in STORY_PATHS if (text := _at(data, path))},
            lists={path: items for path, items in lists.items() if items},
            issued={path: _highest(items) for path, items in lists.items() if items},
        )


def honest_text(text: str) -> str:
    """Leave out what turns or hides other characters; lines and spaces stay."""
    return _DECEPTIVE.sub("", text)


def clean_text(text: str) -> str:
    """Return one line of what can be seen: no control characters, overrides, outer spaces."""
    return _SPACES.sub(" ", _CONTROL.sub(" ", honest_text(text))).strip()


def is_visible(text: str) -> bool:
    """Whether a text has anything that a reader can see."""
    return any(unicodedata.category(character) not in _UNSEEN for character in text)


def sameness_key(text: str) -> str:
    """Return what two texts that say the same in the same words have in common."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    key = _SPACES.sub(" ", folded).strip(_OUTER_MARKS)
    return key or folded.strip()


def _at(data: JsonObject, path: str) -> Any:
    group, _, leaf = path.rpartition(".")
    return (data.get(group, {}) if group else data).get(leaf)


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]


def _number(item_id: str) -> int:
    digits = item_id.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _highest(items: tuple[Item, ...]) -> int:
    ids = [item_id for item in items for item_id in (item.id, *item.merged_from)]
    return max(map(_number, ids), default=0)
