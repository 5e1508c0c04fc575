"""Values that Postgres refuses are replaced, and nothing else is."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.postgres.storable import to_json, to_text

_text = st.text(st.characters(exclude_categories=[]) | st.sampled_from(["\x00", "\\", "u", "0"]))
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)


@given(_text)
def test_a_text_keeps_its_length_and_everything_storable(text: str) -> None:
    stored = to_text(text)

    assert len(stored) == len(text)
    assert "\x00" not in stored
    assert stored.encode().decode() == stored
    assert all(new in {old, "\ufffd"} for old, new in zip(text, stored, strict=True))


@given(_json)
def test_json_says_the_same_but_for_what_cannot_be_stored(value: Any) -> None:
    assert orjson.loads(to_json(value)) == _replaced(value)


def _replaced(value: Any) -> Any:
    if isinstance(value, str):
        return to_text(value)
    if isinstance(value, list):
        return [_replaced(each) for each in value]
    if isinstance(value, dict):
        return {to_text(key): _replaced(each) for key, each in value.items()}
    return value


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "plain"])
def test_a_backslash_and_four_digits_are_no_nul(text: str) -> None:
    assert orjson.loads(to_json([text])) == [text]


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        to_json({"a": object()})
