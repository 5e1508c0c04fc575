"""Nothing a caller sends disappears unseen: what is not exactly one storable object is refused."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.bodies import parse_object
from service.domain.errors import InvalidInput

_STORABLE = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
_TEXTS = st.text(_STORABLE, max_size=20)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=20,
)
_OBJECTS = st.dictionaries(_TEXTS, _VALUES, max_size=5)


def refusal(body: bytes) -> InvalidInput:
    """What `parse_object` says against a body."""
    with pytest.raises(InvalidInput) as caught:
        parse_object(body)
    assert (caught.value.code, caught.value.status) == ("VALIDATION_ERROR", 400)
    return caught.value


@given(_OBJECTS, st.booleans())
def test_every_storable_object_is_read_as_it_was_meant(document: Any, ascii_only: bool) -> None:
    assert parse_object(json.dumps(document, ensure_ascii=ascii_only).encode()) == document


@given(st.binary(max_size=200))
def test_bytes_that_mean_nothing_are_refused_and_nothing_worse(body: bytes) -> None:
    with suppress(InvalidInput):
        assert parse_object(body) == json.loads(body)


def test_a_byte_order_mark_does_no_harm() -> None:
    assert parse_object(b'\xef\xbb\xbf{"story": "x"}') == {"story": "x"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "line 1, column 2"),
        (b'{"story": "x"} trailing', "not valid JSON"),
        (b'{"story": "\xff"}', "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b'"story"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": [-Infinity]}', "-Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": %s}' % (b"9" * 5000), "too many digits"),
        (b'{"story": "first", "story": "second"}', "'story' appears twice"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "'b' appears twice"),
        (b'{"a":' * 30 + b"0" + b"}" * 30, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a":' + b"[" * 30 + b"]" * 30 + b"}", "nested too deeply"),
    ],
)
def test_a_refusal_says_what_is_wrong(body: bytes, said: str) -> None:
    assert said in str(refusal(body))


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        (rb'{"story": "a\u0000b"}', "story", "U+0000"),
        (rb'{"story": "\ud83d"}', "story", "U+D83D"),
        (rb'{"options": {"productContext": {"keyFeatures": ["x", "\udc00"]}}}', None, "U+DC00"),
        (rb'{"options": [{"a\u0000": 1}]}', "options[0]", "U+0000"),
        (rb'{"\udfff": 1}', "", "U+DFFF"),
    ],
)
def test_text_that_cannot_be_stored_is_refused_by_its_place(
    body: bytes, field: str | None, said: str
) -> None:
    [error] = refusal(body).errors
    assert error.field == ("options.productContext.keyFeatures[1]" if field is None else field)
    assert said in error.message


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert parse_object(rb'{"story": "\ud83d\ude00"}') == {"story": "\U0001f600"}


def test_a_backslash_before_digits_is_no_escape() -> None:
    assert parse_object(rb'{"story": "\\u0000"}') == {"story": r"\u0000"}


def test_a_refusal_never_repeats_more_than_a_name() -> None:
    name = "n" * 5000
    body = f'{{"{name}": 1, "{name}": 2}}'.encode()
    assert len(str(refusal(body))) < 200
