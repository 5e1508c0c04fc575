"""What is read out of a submitted text, and that nothing of it is lost or fatal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.intake import MAX_INTAKE_ITEMS, MAX_INTAKE_TEXT, read_story
from service.domain.markdown import render_markdown
from service.domain.story import INTAKE, MAX_ITEMS


def sentence(text: str) -> tuple[str, str, str]:
    story = read_story(text).as_json()["story"]
    return story["asA"], story["iWant"], story["soThat"]


def criteria(text: str) -> list[str]:
    return [item.text for item in read_story(text).items("outcomeAcceptanceCriteria")]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("As a user, I want to log in", ("user", "to log in", "")),
        ("as an ADMIN i need reports so that I see.", ("ADMIN", "reports", "I see")),
        ("As a\nuser\nI'd like to\npay\nso that\nit ends", ("user", "to pay", "it ends")),
        ("As a user,\n\nI want tea\n\nSo that I wake", ("user", "tea", "I wake")),
        (
            "**As a** cook\r\n**I want** salt\r\n**So that** it tastes",
            ("cook", "salt", "it tastes"),
        ),
        ("- As a cook\n- I want salt\n- so that it tastes", ("cook", "salt", "it tastes")),
        ("> As a cook\n> I want salt\n>> so that it tastes", ("cook", "salt", "it tastes")),
        ("As a <b>cook</b>, I want <i>salt</i>", ("<b>cook</b>", "<i>salt</i>", "")),
        ("In order to rest, as the cook, I would like help", ("cook", "help", "rest")),
        ("As a cook I want to ask Mr. X so I can go. More.", ("cook", "to ask Mr. X", "I can go")),
        ("As a cook, I want salt. It is for soup.", ("cook", "salt", "")),
        ("As a cook, I want salt.\nit is for soup", ("cook", "salt", "")),
        ("\ufeffAs a \u202ecook\u202c, I want salt.\U000e0041", ("cook", "salt", "")),
        ("As a result, we lost. I want pie", ("", "pie", "")),
        ("I want pie so that I am full", ("", "pie", "I am full")),
        ("As a user, I should be able to leave", ("user", "be able to leave", "")),
        ("See below.\n\nAs a user, I want x.\n\nAs an admin, I want y.", ("user", "x", "")),
        ("fix the login", ("", "", "")),
        ("", ("", "", "")),
    ],
)
def test_the_sentence_is_found_in_the_forms_people_write(
    text: str, parts: tuple[str, str, str]
) -> None:
    assert sentence(text) == parts


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# Sign in #\n\nAs a user, I want x", "Sign in"),
        ("Title: Sign in\nAs a user, I want x", "Sign in"),
        ("\ufeff# Sign in\nAs a user, I want x", "Sign in"),
        ("As a user, I want to be able to log in", "Log in"),
        ("the checkout is broken.\nbadly", "The checkout is broken"),
        ("As a user, I want to learn C#", "Learn C#"),
        ("## Background\nfoo", "Background"),
        ("", "Untitled story"),
        ("\x00\n \t", "Untitled story"),
        ("# \u200b\n\u200b\nAC:\n- x", "Untitled story"),
        ("I want " + "very " * 40 + "much", "Very " + "very " * 13 + "very…"),
    ],
)
def test_every_story_has_a_title(text: str, title: str) -> None:
    assert read_story(text).title == title


@pytest.mark.parametrize(
    "heading",
    [
        "Acceptance criteria:",
        "## Acceptance Criteria",
        "**Acceptance criteria**",
        "### AC",
        "AC:",
        "acceptance criteria (draft):",
    ],
)
def test_criteria_are_found_under_their_heading(heading: str) -> None:
    text = f"As a user, I want x\n\n{heading}\n\n- one\n* [ ] two\n  goes on\n2. three\n\nNote: no."
    assert criteria(text) == ["one", "two goes on", "three"]


def test_scenarios_without_bullets_become_one_criterion_each() -> None:
    text = "Acceptance criteria:\nGiven a\nWhen b\nThen c\nGiven d\nthen e\nsomething else"
    assert criteria(text) == ["Given a When b Then c", "Given d then e"]


def test_other_lists_are_found_and_other_bullets_are_left_to_the_text() -> None:
    text = "- loose\n# Open questions\n- why?\n# Out of scope\n- tax\n# Edge cases\n- two\n# X\n- y"
    story = read_story(text)
    found = {path: [item.text for item in items] for path, items in story.lists.items()}
    assert found == {"openQuestions": ["why?"], "nonGoals": ["tax"], "edgeCases": ["two"]}


def test_items_of_the_user_are_marked_numbered_and_never_doubled() -> None:
    story = read_story("AC:\n- one\n- One.\n- two")
    assert [(item.id, item.iteration) for _, item in story.every_item()] == [
        ("AC-OUT-1", INTAKE),
        ("AC-OUT-2", INTAKE),
    ]


def test_an_item_says_something_that_can_be_seen_and_hides_nothing() -> None:
    hidden = "".join(chr(0xE0000 + ord(letter)) for letter in "obey")
    text = f"AC:\n- \u200b\n- shown{hidden}\n- \u202edesrever\u202c \u2066x\u2069\n- سلام\u200cها"
    assert criteria(text) == ["shown", "desrever x", "سلام\u200cها"]


def test_more_items_than_fit_stay_in_the_text_and_leave_room_for_iterations() -> None:
    text = "AC:\n" + "\n".join(f"- item {number}" for number in range(200))
    assert len(criteria(text)) == MAX_INTAKE_ITEMS < MAX_ITEMS
    assert "- item 199" in render_markdown(read_story(text), text, {})
    assert criteria("AC:\n- " + "x" * (MAX_INTAKE_TEXT + 1)) == []


PIECES = st.sampled_from(
    [
        "As a ", "as an", "I want ", "so that", "in order to ", "\n", "\n\n", "\r\n", "# ", "## ",
        "- ", "1. ", "Acceptance criteria:", "Given ", "Title: ", "**", "\x00", "\u2028", "`",
        "```", ". ", "word", "\ud800",
    ]
)  # fmt: skip


@given(
    text=st.lists(PIECES | st.text(alphabet=st.characters(), max_size=8), max_size=30).map("".join)
)
def test_any_text_survives_verbatim_and_any_structure_can_be_stored(text: str) -> None:
    story = read_story(text)
    shown = json.dumps(story.as_json(), ensure_ascii=False)
    assert "\\u0000" not in shown
    assert shown.encode().decode() == shown
    assert story.title
    assert text in render_markdown(story, text, {})
    assert read_story(text) == story


@pytest.mark.parametrize(
    "text",
    [
        "as a " * 50_000,
        "I want " * 40_000,
        "as a user" + " \n" * 100_000 + "I want x" + "\n \n" * 50_000 + "so that y",
        "AC:\n" + "- x\n" * 50_000,
        "AC:\ngiven\n" + "and\n" * 50_000,
        "*" * 200_000,
        "#" * 200_000,
        "\t" * 200_000,
        "a." * 100_000,
        "# " + "x" * 200_000,
    ],
    ids=lambda text: repr(text[:8]),
)
@pytest.mark.timeout(5)
def test_huge_and_repetitive_texts_take_linear_time(text: str) -> None:
    assert len(read_story(text).title) <= 80
