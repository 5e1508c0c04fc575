"""Renders a story as Markdown, always the same way."""

import re
from collections.abc import Iterator, Mapping

from service.domain.story import (
    AS_A,
    EDGE_CASES,
    I_WANT,
    LOADING_STATES,
    NON_GOALS,
    OPEN_QUESTIONS,
    OUTCOME_CRITERIA,
    PERFORMANCE,
    SECURITY,
    SO_THAT,
    SYSTEM_CRITERIA,
    TELEMETRY,
    USER_VISIBLE,
    Item,
    Story,
    clean_text,
)

# An ampersand is escaped where it begins an entity, a hash where it ends a heading.
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~]|&(?=#?\w+;)|#\Z)")
_ARTICLE = re.compile(r"(?:an?|the)\s", re.IGNORECASE)
_BACKTICKS = re.compile(r"`+")
_SECTIONS = (
    (USER_VISIBLE, "## User-visible behaviour"),
    (OUTCOME_CRITERIA, "## Acceptance criteria: outcome"),
    (SYSTEM_CRITERIA, "## Acceptance criteria: system"),
)
_NOTES = (
    (PERFORMANCE, "### Performance"),
    (LOADING_STATES, "### Loading states"),
    (SECURITY, "### Security"),
    (TELEMETRY, "### Telemetry"),
)
_CLOSING = (
    (OPEN_QUESTIONS, "## Open questions"),
    (EDGE_CASES, "## Edge cases"),
    (NON_GOALS, "## Non-goals"),
)


def render_markdown(story: Story, original: str, origins: Mapping[str, str]) -> str:
    """Return the story, empty lists left out, and the submitted text verbatim at its end.

    `origins` names the iteration that added an item, by id, also for items merged away.
    """
    blocks = [f"# {_escape(story.title)}", *_sentence(story)]
    blocks += _lists(story, _SECTIONS, origins)
    notes = list(_lists(story, _NOTES, origins))
    if notes:
        blocks += ["## Implementation notes", *notes]
    blocks += _lists(story, _CLOSING, origins)
    blocks += ["## Original story", _fenced(original)]
    return "\n\n".join(blocks) + "\n"


def _sentence(story: Story) -> Iterator[str]:
    role, wish, benefit = (story.line(path) for path in (AS_A, I_WANT, SO_THAT))
    lines = []
    if role:
        bare = _ARTICLE.sub("", role, count=1) if _ARTICLE.match(role) else role
        article = "an" if bare[:1].lower() in set("aeio") else "a"
        lines.append(f"**As {article}** {_escape(bare)}")
    if wish:
        lines.append(f"**I want** {_escape(wish)}")
    if benefit:
        lines.append(f"**so that** {_escape(benefit)}")
    if lines:
        yield ",  \n".join(lines) + "."


def _lists(
    story: Story, sections: tuple[tuple[str, str], ...], origins: Mapping[str, str]
) -> Iterator[str]:
    for path, heading in sections:
        items = story.items(path)
        if items:
            yield heading
            yield "\n".join(f"- [{_label(item, origins)}] {_escape(item.text)}" for item in items)


def _label(item: Item, origins: Mapping[str, str]) -> str:
    """Name an item, its iteration, and those whose items were merged into it."""
    merged = dict.fromkeys(origins[each] for each in item.merged_from if each in origins)
    others = [iteration for iteration in merged if iteration != item.iteration]
    return f"{item.id} · {item.iteration}" + (f", with {', '.join(others)}" if others else "")


def _escape(text: str) -> str:
    """Return one line that is nothing but text, whatever it says."""
    return _SPECIAL.sub(r"\\\1", clean_text(text))


def _fenced(text: str) -> str:
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
