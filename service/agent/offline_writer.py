"""Writes patches by rule from what a story says about its role, wish and benefit."""

import json
import re
import unicodedata

from service.agent.offline_phrases import PHRASES, TOPICS
from service.domain.iterations import CONSOLIDATION
from service.domain.job import JsonObject
from service.domain.story import AS_A, I_WANT, INTAKE, LIST_PATHS, SO_THAT, Item, Story

_MOST_FOR_TOPICS = 2
_MOST_PATCHES = 4
_LONGEST_PART = 110
_ALIKE = 0.8
_LETTERS_LOOKED_AT = 2000
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"(?:an?|the)\s+", re.IGNORECASE)
_WISH_START = re.compile(r"(?:to\s+be\s+able\s+to|be\s+able\s+to|to)\s+", re.IGNORECASE)
_PERSONS = (
    (re.compile(r"\bI\s+am\b|\bI['’]m\b"), "they are"),
    (re.compile(r"\bI\b"), "they"),
    (re.compile(r"\bmy\b", re.IGNORECASE), "their"),
    (re.compile(r"\bme\b"), "them"),
    (re.compile(r"\bmyself\b"), "themselves"),
)


def write_draft(subject: JsonObject) -> str:
    """Write a draft reply on the subject of a request; the same subject gets the same reply."""
    story = Story.from_json(subject["story"])
    iteration = subject["iteration"]
    if iteration == CONSOLIDATION.id:
        patches = _mergers(story)
    else:
        patches = _additions(story, iteration, subject.get("originalStory", ""))
    return json.dumps({"patches": patches}, ensure_ascii=False)


def write_verification(subject: JsonObject) -> str:
    """Write a review that passes; it scores by how much was proposed."""
    count = len(subject.get("patches", ()))
    return json.dumps({"score": round(0.84 + 0.02 * min(count, 5), 2), "issues": []})


def _additions(story: Story, iteration: str, original: str) -> list[JsonObject]:
    if not _is_in_our_script(f"{story.title} {original}"):
        return []
    # The benefit names things that this story is not about.
    said = f"{story.title} {story.line(I_WANT) or original}"
    topics = {topic for topic, pattern in TOPICS.items() if pattern.search(said)}
    parts = _parts(story)
    phrases = PHRASES.get(iteration, ())
    special = [phrase for phrase in phrases if phrase.topic in topics][:_MOST_FOR_TOPICS]
    general = [phrase for phrase in phrases if phrase.topic is None]
    return [
        {
            "op": "add",
            "path": phrase.path,
            "text": _sentence(phrase.text, parts),
            "reason": _reason(phrase.topic, parts),
        }
        for phrase in (*special, *general)[:_MOST_PATCHES]
    ]


def _is_in_our_script(text: str) -> bool:
    """Whether English sentences would not stand among letters of another script."""
    letters = [each for each in text[:_LETTERS_LOOKED_AT] if each.isalpha()]
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return 2 * latin >= len(letters)


def _parts(story: Story) -> dict[str, str]:
    role = _ARTICLE.sub("", _short(story.line(AS_A)), count=1) or "person"
    wish = _short(story.line(I_WANT))
    if _WISH_START.match(wish):
        action = _WISH_START.sub("", wish, count=1)
    elif wish:
        action = f"get {wish}"
    else:
        # Any other words may be instructions, which are not repeated as if they were a wish.
        action = "do what this story asks for"
    benefit = story.line(SO_THAT)
    return {
        "role": role,
        "a_role": f"{'an' if role[:1].lower() in set('aeio') else 'a'} {role}",
        "action": _from_outside(action),
        "benefit": f"“{_short(benefit)}”" if benefit else "the wish behind this story",
    }


def _from_outside(text: str) -> str:
    for pattern, word in _PERSONS:
        text = pattern.sub(word, text)
    return text


def _sentence(template: str, parts: dict[str, str]) -> str:
    # In one pass, since a part may look like a slot itself.
    return _SLOT.sub(lambda slot: parts[slot[1]], template)


def _reason(topic: str | None, parts: dict[str, str]) -> str:
    what = f"The story is about {topic}." if topic else f"It follows from: {parts['action']}."
    return _short(what, 200)


def _short(text: str, longest: int = _LONGEST_PART) -> str:
    text = text.strip().rstrip(".")
    if len(text) <= longest:
        return text
    cut = text[: longest - 1]
    return (cut.rpartition(" ")[0] or cut) + "…"


def _mergers(story: Story) -> list[JsonObject]:
    """Merge neighbours that use nearly the same words."""
    patches = []
    for path in LIST_PATHS:
        items = list(story.items(path))
        while items:
            first = items.pop(0)
            twin = next((item for item in items if _are_alike(first, item)), None)
            if twin is not None:
                items.remove(twin)
                kept = max(first, twin, key=lambda item: (item.iteration == INTAKE, len(item.text)))
                patches.append(
                    {
                        "op": "merge",
                        "path": path,
                        "ids": [first.id, twin.id],
                        "text": kept.text,
                        "reason": "Both items demand the same thing.",
                    }
                )
    return patches


def _are_alike(one: Item, other: Item) -> bool:
    if one.iteration == other.iteration == INTAKE:
        return False
    words, others = (set(re.findall(r"\w+", item.text.casefold())) for item in (one, other))
    return bool(words) and len(words & others) / len(words | others) >= _ALIKE
