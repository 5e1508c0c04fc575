"""Values in the form that Postgres can store: no U+0000 and no half of a surrogate pair."""

import re
from typing import Any

import orjson

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def to_text(text: str) -> str:
    """Return the text with the replacement character where it cannot be stored."""
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def to_json(value: Any) -> str:
    r"""Return the value as JSON that `jsonb` takes; raises TypeError if it is no JSON at all."""
    try:
        written = orjson.dumps(value).decode()
    except TypeError:  # a lone surrogate, among other things
        return orjson.dumps(_storable(value)).decode()
    # Written as `\u0000`, which may as well be an escaped backslash and four digits.
    return orjson.dumps(_storable(value)).decode() if r"\u0000" in written else written


def _storable(value: Any) -> Any:
    match value:
        case str():
            return to_text(value)
        case dict():
            return {_storable(key): _storable(each) for key, each in value.items()}
        case list() | tuple():
            return [_storable(each) for each in value]
        case _:
            return value
