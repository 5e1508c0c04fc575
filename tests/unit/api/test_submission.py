"""A submission is checked field by field before anything is stored."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.submission import LARGEST_BODY, Submission, fingerprint, validate
from service.domain.errors import FieldError, InvalidInput
from service.domain.tiers import TIERS

_STORY = "As a user, I want to log in"


def refused(**document: Any) -> list[FieldError]:
    """The bad fields of a submission."""
    with pytest.raises(InvalidInput) as caught:
        validate(document)
    assert (caught.value.code, caught.value.status) == ("VALIDATION_ERROR", 400)
    return list(caught.value.errors)


def test_a_story_alone_is_enough() -> None:
    assert validate({"story": _STORY}) == Submission(
        story=_STORY, iterations=None, mode="individual", agent="user-story", options={}
    )


def test_iterations_may_be_null_which_is_what_simple_tools_send() -> None:
    assert validate({"story": _STORY, "iterations": None}).iterations is None


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "story"),
        ({"story": None}, "story"),
        ({"story": 1}, "story"),
        ({"story": ["a"]}, "story"),
        ({"story": _STORY, "iterations": "security"}, "iterations"),
        ({"story": _STORY, "iterations": ["security", 1]}, "iterations[1]"),
        ({"story": _STORY, "iterations": {"0": "security"}}, "iterations"),
        ({"story": _STORY, "mode": "fast"}, "mode"),
        ({"story": _STORY, "mode": None}, "mode"),
        ({"story": _STORY, "agent": 1}, "agent"),
        ({"story": _STORY, "options": []}, "options"),
        ({"story": _STORY, "options": "x"}, "options"),
        ({"story": _STORY, "priority": 1}, "priority"),
        ({"story": _STORY, "userId": "root"}, "userId"),
    ],
)
def test_a_bad_field_is_named(document: dict[str, Any], field: str) -> None:
    assert [error.field for error in refused(**document)] == [field]


def test_every_bad_field_is_named_at_once() -> None:
    errors = refused(mode=1, agent=2, extra=3)
    assert {error.field for error in errors} == {"story", "mode", "agent", "extra"}


def test_what_was_sent_is_never_repeated() -> None:
    secret = "s3cret-" * 500
    errors = refused(story=_STORY, mode=secret, options=secret, iterations=[{"x": secret}])
    assert len(errors) == 3
    assert all("s3cret" not in error.message for error in errors)


def test_a_name_that_is_repeated_is_cut() -> None:
    [error] = refused(**{"story": _STORY, "n" * 5000: 1})
    assert error.field == "n" * 80


def test_a_long_list_of_mistakes_costs_no_more_than_the_first() -> None:
    assert len(refused(story=_STORY, iterations=[1] * 100_000)) == 1


_SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
_DOCUMENTS = st.dictionaries(st.text(max_size=5), _SCALARS | st.lists(_SCALARS), max_size=5)


@given(_DOCUMENTS)
def test_the_order_of_members_does_not_change_a_fingerprint(document: dict[str, Any]) -> None:
    turned = dict(reversed(document.items()))
    assert fingerprint(turned) == fingerprint(document)


@given(_DOCUMENTS, _DOCUMENTS)
def test_other_documents_have_other_fingerprints(a: dict[str, Any], b: dict[str, Any]) -> None:
    def as_seen(value: Any) -> Any:
        # Python holds True for 1; JSON does not.
        return repr(sorted(value.items()))

    assert (fingerprint(a) == fingerprint(b)) == (as_seen(a) == as_seen(b))


def test_the_longest_story_fits_however_it_is_escaped() -> None:
    longest = max(tier.story_bytes for tier in TIERS.values())
    body = '{"story":"' + r"\u0001" * longest + '"}'
    assert len(body) + 8_200 * 12 < LARGEST_BODY
