"""Patches found in a reply that is still being written."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.agent.partial_patches import PatchScanner

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PATCHES = st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=4), max_size=5)


def scan(text: str, cuts: list[int]) -> list[Any]:
    scanner = PatchScanner()
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[start:end] for start, end in pairwise(edges)]
    return [json.loads(found) for piece in pieces for found in scanner.feed(piece)]


@given(
    patches=PATCHES,
    before=JSON_VALUES,
    cuts=st.lists(st.integers(min_value=0, max_value=10_000), max_size=30),
    is_ascii=st.booleans(),
    indent=st.sampled_from([None, 2]),
)
def test_every_patch_is_found_once_however_the_text_is_cut(
    patches: list[dict[str, Any]], before: Any, cuts: list[int], is_ascii: bool, indent: int | None
) -> None:
    reply = {"note": before, "patches": patches, "after": [{"no": "patch"}]}
    text = json.dumps(reply, ensure_ascii=is_ascii, indent=indent)
    assert scan(text, cuts) == patches


@given(text=st.text(alphabet='{}[]"\\:,patches x', max_size=200))
def test_nonsense_is_survived(text: str) -> None:
    scanner = PatchScanner()
    assert all(found.startswith("{") for found in scanner.feed(text))


def test_a_patch_is_found_with_its_last_character_and_not_before() -> None:
    scanner = PatchScanner()
    assert scanner.feed('{"patches": [{"text": "a } b"') == []
    assert scanner.feed("}") == ['{"text": "a } b"}']
    assert scanner.feed(', 7, [{"x": 1}], {"y": {"z": []}}]}') == ['{"y": {"z": []}}']
