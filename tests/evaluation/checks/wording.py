"""What a writer's sentences are made of, as far as that can be judged by rule."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

import orjson

from service.domain.intake import read_story
from service.domain.job import JsonObject
from service.domain.story import Story
from tests.evaluation.cases import Case
from tests.evaluation.checks.parts import Events, written_texts

_NUMBER = re.compile(r"(?<![\w.,-])\d{1,6}(?:[.,]\d+)?(?!\w)")
_JAPANESE = {"CJK": "JAPANESE", "HIRAGANA": "JAPANESE", "KATAKANA": "JAPANESE"}
# Below this, a story has no script of its own; a criterion may hold words of another.
_CLEARLY = 0.9
_AT_LEAST = 0.3


def keeps_the_script(case: Case, result: JsonObject, _: Events) -> Iterator[str]:
    """In a story of one script, no text is written in another."""
    scripts = _scripts(case.story)
    if not scripts:
        return
    script, count = scripts.most_common(1)[0]
    if count < _CLEARLY * scripts.total():
        return
    for place, text in written_texts(case, result):
        letters = _scripts(text)
        if letters[script] < _AT_LEAST * letters.total():
            yield f"{place} is not written in the story's {script.lower()} letters"


def keeps_the_numbers(case: Case, result: JsonObject, _: Events) -> Iterator[str]:
    """A criterion of the user's that was reworded has all its numbers still."""
    story = Story.from_json(result["story"])
    for path, own in read_story(case.story).every_item():
        item = story.find(path, own.id)
        if item is not None:
            lost = _numbers(own.text) - _numbers(item.text)
            yield from (f"{own.id} lost the number {number}" for number in sorted(lost))


def invents_no_numbers(case: Case, result: JsonObject, _: Events) -> Iterator[str]:
    """Nothing is limited by a number that nobody named."""
    given = _numbers(case.story) | _numbers(orjson.dumps(case.options).decode())
    for place, text in written_texts(case, result):
        yield from (f"{place} invents {number}" for number in sorted(_numbers(text) - given))


def _numbers(text: str) -> set[str]:
    return set(_NUMBER.findall(text))


def _scripts(text: str) -> Counter[str]:
    """Count letters by the first word of their Unicode names."""
    names = (unicodedata.name(each, "").partition(" ")[0] for each in text if each.isalpha())
    return Counter(_JAPANESE.get(name, name) for name in names)
