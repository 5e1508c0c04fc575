"""HTML in which every text is escaped, because only this module can say that one is not a text."""

import re
from html import escape
from typing import Final

_VOID: Final = frozenset({"meta"})
_CODE: Final = re.compile(r"`([^`]+)`")


class Html(str):
    """Markup made here."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str) -> Html:
    """Make an element; `class_` is the attribute `class`, and every other `_` a hyphen."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    inner = "".join(map(_markup, children))
    return Html(f"<{name}{told}>" if name in _VOID else f"<{name}{told}>{inner}</{name}>")


def prose(text: str) -> Html:
    """Escape a text, in which backticks mark code."""
    return Html(_CODE.sub(r"<code>\1</code>", escape(text)))


def joined(*parts: str) -> Html:
    """Put parts one after the other."""
    return Html("".join(map(_markup, parts)))


def _markup(part: str) -> str:
    return part if isinstance(part, Html) else escape(part)
