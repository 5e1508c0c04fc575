"""Reads a submitted text into a structured story; what is not understood stays in the text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from service.domain.narrative import read_sentence
from service.domain.story import (
    EDGE_CASES,
    I_WANT,
    INTAKE,
    NON_GOALS,
    OPEN_QUESTIONS,
    OUTCOME_CRITERIA,
    Item,
    Story,
    clean_text,
    honest_text,
    is_visible,
    sameness_key,
)

MAX_INTAKE_ITEMS = 60
MAX_INTAKE_TEXT = 2000
_TITLE_LENGTH = 80
_UNTITLED = "Untitled story"

_LINE_END = re.compile(r"\r\n|[\r\n\x0b\x0c\x85\u2028\u2029]")
_HEADING = re.compile(r"[ ]{0,3}(#{1,6})[ \t]+(\S.*)")
_TITLE_LABEL = re.compile(r"\s{0,3}\**title\**\s?:\**\s?(\S.*)", re.IGNORECASE)
_BULLET = re.compile(r"[ \t]{0,12}(?:[-*+•‣–]|\d{1,3}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?(\S.*)")
_GHERKIN_START = re.compile(r"\W{0,4}given\b", re.IGNORECASE)
_GHERKIN_MORE = re.compile(r"\W{0,4}(?:when|then|and|but)\b", re.IGNORECASE)
_SECTIONS = (
    (re.compile(r"acceptance criteri(?:a|on)|criteria|acs?|definition of done"), OUTCOME_CRITERIA),
    (re.compile(r"(?:open )?questions"), OPEN_QUESTIONS),
    (re.compile(r"edge[ -]cases"), EDGE_CASES),
    (re.compile(r"non[ -]?goals|out of scope|not in scope"), NON_GOALS),
)
_LONGEST_LABEL = 60
_ASIDE = re.compile(r" ?\([^()]*\)\Z")


@dataclass(slots=True)
class _Reading:
    """What has been read of a text so far."""

    title: str = ""
    prose: list[str] = field(default_factory=list)
    found: list[tuple[str, list[str]]] = field(default_factory=list)
    section: str | None = None
    is_open: bool = False

    def add(self, line: str) -> None:
        """Take in one line."""
        heading = _HEADING.fullmatch(line)
        section = _section_named(heading[2] + ":" if heading else line)
        if section is not None:
            self._enter(section)
        elif heading is not None:
            self._enter(None)
            self._set_title(heading[2], is_top=heading[1] == "#")
        elif self.section is None:
            self._add_prose(line)
        else:
            self._add_to_section(self.section, line)

    def _enter(self, section: str | None) -> None:
        self.section, self.is_open = section, False
        self.prose.append("")

    def _set_title(self, text: str, *, is_top: bool) -> None:
        if is_top and not self.title:
            self.title = _short(clean_text(text.rstrip(" \t#")))
        else:
            self.prose.append(text)

    def _add_prose(self, line: str) -> None:
        labelled = _TITLE_LABEL.fullmatch(line)
        if labelled and not self.title:
            self.title = _short(clean_text(labelled[1]))
            return
        bullet = _BULLET.fullmatch(line)
        self.prose.append(bullet[1] if bullet else line)

    def _add_to_section(self, section: str, line: str) -> None:
        bullet = _BULLET.fullmatch(line)
        if bullet is not None:
            self.found.append((section, [bullet[1]]))
            self.is_open = True
        elif not line.strip():
            self.is_open = False
        elif self.is_open and (line[0] in " \t" or _GHERKIN_MORE.match(line)):
            self.found[-1][1].append(line)
        elif _GHERKIN_START.match(line):
            self.found.append((section, [line]))
            self.is_open = True
        else:
            self.is_open = False
            self.prose.append(line)


def read_story(text: str) -> Story:
    """Structure what can be understood of a text, at most `MAX_INTAKE_ITEMS` items of it."""
    reading = _Reading()
    for line in _LINE_END.split(honest_text(text)):
        reading.add(line)
    lines = read_sentence("\n".join(reading.prose))
    sentence = {
        path: cleaned
        for path, part in lines.items()
        if 0 < len(cleaned := clean_text(part)) <= MAX_INTAKE_TEXT
    }
    title = reading.title if is_visible(reading.title) else _derived_title(sentence, reading.prose)
    story = Story(title=title, sentence=sentence)
    for number, (path, statement) in enumerate(_statements(reading)):
        if number == MAX_INTAKE_ITEMS:
            break
        story = story.with_item(path, Item(story.next_id(path), statement, INTAKE))
    return story


def _statements(reading: _Reading) -> Iterator[tuple[str, str]]:
    seen = set()
    for path, parts in reading.found:
        statement = clean_text(" ".join(parts))
        key = sameness_key(statement)
        if key not in seen and is_visible(statement) and len(statement) <= MAX_INTAKE_TEXT:
            seen.add(key)
            yield path, statement


def _section_named(line: str) -> str | None:
    if len(line) > _LONGEST_LABEL:
        return None
    label = _ASIDE.sub("", line.strip().strip("*_:# \t")).casefold()
    is_marked = line.lstrip().startswith(("*", "_")) or line.rstrip(" *_\t").endswith(":")
    for pattern, path in _SECTIONS:
        if pattern.fullmatch(label) and (is_marked or " " in label):
            return path
    return None


def _derived_title(sentence: dict[str, str], prose: list[str]) -> str:
    wish = sentence.get(I_WANT, "")
    wish = re.sub(r"^(?:to be able to|to)\s", "", wish, flags=re.IGNORECASE)
    first = wish or next(filter(is_visible, map(clean_text, prose)), "")
    title = _short(first.lstrip(" .*_#>").rstrip(" .*_"))
    return title[:1].upper() + title[1:] if is_visible(title) else _UNTITLED


def _short(text: str) -> str:
    if len(text) <= _TITLE_LENGTH:
        return text
    cut = text[: _TITLE_LENGTH - 1]
    return (cut.rpartition(" ")[0] or cut).rstrip(" ,;:") + "…"
