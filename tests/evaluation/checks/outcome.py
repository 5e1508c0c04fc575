"""The story that comes out: the user's text, its form, and how it is shown."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

import orjson

from service.domain.events import EventType
from service.domain.intake import MAX_INTAKE_TEXT, read_story
from service.domain.job import JsonObject
from service.domain.markdown import render_markdown
from service.domain.patches import MAX_PATCHES
from service.domain.story import INTAKE, MAX_ITEMS, MAX_TEXT, PREFIXES, Story
from tests.evaluation.cases import Case
from tests.evaluation.checks.parts import Events, items_of, origins_of, patches_of

_BIDI = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
_LINE_OF_THE_FRAME = re.compile(r"#{1,3} .*|\*\*(?:As an?|I want|so that)\*\* .*|")
_ITEM = re.compile(r"- \[([A-Z-]+-\d+) · [a-z, -]+\] (.*)")
_MARKUP = re.compile(r"(?<!\\)(?:\\\\)*(?:[<>*_`\[\]|~]|&#?\w+;)")


def reads_the_text(case: Case, _: JsonObject, events: Events) -> Iterator[str]:
    """Intake finds the sentence, the title and the items that a person finds."""
    first, details = events[0] if events else (None, {})
    if first is not EventType.START:
        yield "the first event is not `start`"
        return
    story = details["story"]
    read = {
        "title": story["title"],
        **story["story"],
        "own": sum(item["iteration"] == INTAKE for _, item in items_of(story)),
    }
    for name, expected in case.expect.items():
        if read[name] != expected:
            yield f"{name} is {read[name]!r}, not {expected!r}"


def keeps_the_users_text(case: Case, result: JsonObject, _: Events) -> Iterator[str]:
    """Every word is in the original, every item of the user's is still there or names its own."""
    if result["originalStory"] != case.story:
        yield "originalStory is not what was submitted"
    if case.story not in result["markdown"]:
        yield "the Markdown does not end with what was submitted"
    story = Story.from_json(result["story"])
    for path, own in read_story(case.story).every_item():
        item = story.find(path, own.id)
        if item is None or not item.is_from_the_user:
            yield f"{own.id} is gone"
        elif own.text not in (item.text, item.original):
            yield f"{own.id} does not hold the user's wording any more"


def is_well_formed(_: Case, result: JsonObject, events: Events) -> Iterator[str]:
    """Ids are unique and numbered by their list, mergers known, limits kept, texts one line."""
    items = list(items_of(result["story"]))
    issued = {item["id"] for _, item in items_of(events[0][1]["story"])} | origins_of(result).keys()
    yield from (f"{each} is there twice" for each, n in Counter(_ids(items)).items() if n > 1)
    for path, item in items:
        number = item["id"].removeprefix(PREFIXES[path])
        if not number.isdecimal() or item["id"] not in issued:
            yield f"{item['id']} is no id of {path}"
        yield from (
            f"{item['id']} was merged from the unknown {each}"
            for each in item.get("mergedFrom", ())
            if each not in issued or each in set(_ids(items))
        )
        yield from _faults_of(item)
    if len(items) > MAX_ITEMS:
        yield f"there are {len(items)} items"
    counts = Counter(name for name, _ in patches_of(result))
    yield from (f"{name} applied {n} patches" for name, n in counts.items() if n > MAX_PATCHES)
    if Story.from_json(result["story"]).as_json() != result["story"]:
        yield "the story does not survive being read back"


def renders_the_same_and_one_line_each(case: Case, result: JsonObject, _: Events) -> Iterator[str]:
    """From the JSON comes the same Markdown again, where each item is one line of mere text."""
    markdown: str = result["markdown"]
    story = Story.from_json(orjson.loads(orjson.dumps(result["story"])))
    for _again in range(2):
        if render_markdown(story, case.story, origins_of(result)) != markdown:
            yield "rendering the result's JSON gives another Markdown"
    shown = []
    for line in markdown.partition("\n## Original story\n")[0].split("\n"):
        item = _ITEM.fullmatch(line)
        if item is not None:
            shown.append(item[1])
            if _MARKUP.search(item[2]):
                yield f"{item[1]} is shown with markup"
        elif len(line.splitlines()) > 1 or not _LINE_OF_THE_FRAME.fullmatch(line):
            yield f"the line {line[:60]!r} belongs to nothing"
    if Counter(shown) != Counter(_ids(list(items_of(result["story"])))):
        yield "the items shown are not those of the story"


def _ids(items: list[tuple[str, JsonObject]]) -> list[str]:
    return [item["id"] for _, item in items]


def _faults_of(item: JsonObject) -> Iterator[str]:
    text, is_own = item["text"], item["iteration"] == INTAKE and "original" not in item
    if len(text) > (MAX_INTAKE_TEXT if is_own else MAX_TEXT):
        yield f"{item['id']} has {len(text)} characters"
    if not text.strip() or any(_is_unfit(character) for character in text):
        yield f"{item['id']} is empty, or has characters that are no text"


def _is_unfit(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in _BIDI
