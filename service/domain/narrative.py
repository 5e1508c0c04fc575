"""Finds "As a ..., I want ..., so that ..." in prose."""

import re
from collections.abc import Mapping

from service.domain.story import AS_A, I_WANT, SO_THAT

_AS = r"as\s(?:an?|the)\b(?!\s(?:result|rule|whole|consequence|matter)\b)"
_ROLE_AT_START = re.compile(rf"(?:\A|[\n.!?])[\s>*_\-\"'“]{{0,8}}{_AS}", re.IGNORECASE)
_ROLE = re.compile(rf"\b{_AS}", re.IGNORECASE)
_WISH = re.compile(
    r"\bI(?:\s(?:want|need|wish|would\slike)\b|['’]d\slike\b|\s(?:should|must)\s(?=be\sable\b))",
    re.IGNORECASE,
)
_BENEFIT = re.compile(
    r"\b(?:so\sthat|in\sorder\sto|so\s(?=I\s(?:can|could|may|am)\b))", re.IGNORECASE
)
_PURPOSE_FIRST = re.compile(r"(?:\A|[\n.!?])[\s>*_]{0,8}in\sorder\sto\b", re.IGNORECASE)
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n")
_ABBREVIATIONS = ("Mr", "Ms", "Mrs", "Dr", "No", "vs", "etc", "e.g", "i.e")
_SENTENCE_END = re.compile(
    "".join(rf"(?<!\b{re.escape(short)})" for short in _ABBREVIATIONS)
    + r"[.!?](?=\s+[A-Z\"“]|[ \t]*\n|\s*\Z)"
)
_QUOTE_MARK = re.compile(r"^[ \t]*>+", re.MULTILINE)
_EMPHASIS = re.compile(r"\*{2,3}|_{2,3}")
_RUNS = re.compile(r"[ \t\u00a0]+")
_FARTHEST = 4000
_OUTER = ' \t\n,;:.*_-"“”'


def read_sentence(prose: str) -> Mapping[str, str]:
    """Return the parts of the first such sentence, by path; parts that are missing are left out."""
    text = _RUNS.sub(" ", _EMPHASIS.sub(" ", _QUOTE_MARK.sub("", prose)))
    wish = _WISH.search(text)
    if wish is None:
        return {}
    start = max(0, wish.start() - _FARTHEST)
    window = text[start : wish.end() + _FARTHEST]
    at, after = wish.start() - start, wish.end() - start
    parts = {AS_A: _role(window[:at])}
    benefit = _BENEFIT.search(window, after)
    parts[I_WANT] = _until_end(window[after : benefit.start() if benefit else None])
    if benefit is not None and not _leaves_sentence(window[after : benefit.start()]):
        parts[SO_THAT] = _until_end(window[benefit.end() :])
    else:
        parts[SO_THAT] = _purpose_before(window[:at])
    return {path: part for path, part in parts.items() if part}


def _role(before: str) -> str:
    found = _ROLE_AT_START.search(before) or _ROLE.search(before)
    if found is None or _leaves_sentence(before[found.end() :]):
        return ""
    return before[found.end() :].strip(_OUTER)


def _leaves_sentence(part: str) -> bool:
    """Whether what was found beyond a part belongs to another sentence."""
    return (
        _SENTENCE_END.search(part.rstrip(_OUTER)) is not None
        or len(_PARAGRAPH_END.findall(part)) > 1
    )


def _until_end(text: str) -> str:
    body = text.strip(_OUTER)
    paragraph = _PARAGRAPH_END.search(body)
    body = body[: paragraph.start()] if paragraph else body
    sentence = _SENTENCE_END.search(body)
    return (body[: sentence.start()] if sentence else body).strip(_OUTER)


def _purpose_before(before: str) -> str:
    found = _PURPOSE_FIRST.search(before)
    if found is None:
        return ""
    rest = before[found.end() :]
    role = _ROLE.search(rest)
    return (rest[: role.start()] if role else rest).strip(_OUTER)
