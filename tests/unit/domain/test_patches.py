"""Which patches are done, which are dropped, and what no sequence of them can do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.intake import read_story
from service.domain.iterations import CONSOLIDATION, ITERATIONS, Iteration
from service.domain.patches import MAX_ASKED, MAX_PATCHES, MAX_REASON, Rejection, apply_patches
from service.domain.story import INTAKE, MAX_ITEMS, MAX_TEXT, PATHS, Item, Story

OUTCOME = "outcomeAcceptanceCriteria"
OWN = read_story("# T\nAs a user, I want x.\nAcceptance criteria:\n- mine one\n- mine two\n")
STORY = OWN.with_item(OUTCOME, Item("AC-OUT-3", "theirs", "user-roles")).with_item(
    OUTCOME, Item("AC-OUT-4", "others", "user-roles", merged_from=("AC-OUT-9",))
)
ROLES = ITERATIONS["user-roles"]
FREE = Iteration(id="free", name="", description="", category="", order=0, paths=PATHS)


def patch(op: str, path: str = OUTCOME, **more: Any) -> dict[str, Any]:
    return {"op": op, "path": path, "reason": "why", **more}


@pytest.mark.parametrize(
    ("asked", "rejection"),
    [
        ("text", Rejection.MALFORMED),
        ({}, Rejection.MALFORMED),
        (patch("explode", text="a"), Rejection.MALFORMED),
        (patch("add", text=7), Rejection.MALFORMED),
        (patch("add", text="a", extra=1), Rejection.MALFORMED),
        (patch("merge", ids=["AC-OUT-3", 4], text="a"), Rejection.MALFORMED),
        (patch("add", "nowhere", text="a"), Rejection.UNKNOWN_PATH),
        (patch("add", "userVisibleBehavior", text="a"), Rejection.PATH_NOT_ALLOWED),
        (patch("add", "story.asA", text="a"), Rejection.OPERATION_NOT_ALLOWED),
        (patch("replace", "story.asA", text="a", id="X-1"), Rejection.OPERATION_NOT_ALLOWED),
        (patch("replace", "story.asA", text="User!"), Rejection.DUPLICATE_TEXT),
        (patch("add"), Rejection.TEXT_MISSING),
        (patch("add", text=" \x00 "), Rejection.TEXT_MISSING),
        (patch("add", text="\u200b\u202e"), Rejection.TEXT_MISSING),
        (patch("add", text="x" * (MAX_TEXT + 1)), Rejection.TEXT_TOO_LONG),
        (patch("add", text=" MINE  one."), Rejection.DUPLICATE_TEXT),
        (patch("replace", id="AC-OUT-3", text="mine two"), Rejection.DUPLICATE_TEXT),
        (patch("replace", id="AC-OUT-8", text="new"), Rejection.UNKNOWN_ID),
        (patch("replace", text="new"), Rejection.UNKNOWN_ID),
        (patch("remove", id="AC-OUT-8"), Rejection.UNKNOWN_ID),
        (patch("remove", id="AC-OUT-1"), Rejection.FROM_THE_USER),
        (patch("remove", "edgeCases", id="AC-OUT-3"), Rejection.UNKNOWN_ID),
        (patch("merge", ids=["AC-OUT-3"], text="new"), Rejection.UNKNOWN_ID),
        (patch("merge", ids=["AC-OUT-3", "AC-OUT-3"], text="new"), Rejection.UNKNOWN_ID),
        (patch("merge", ids=["AC-OUT-3", "AC-OUT-8"], text="new"), Rejection.UNKNOWN_ID),
        (patch("merge", ids=["AC-OUT-1", "AC-OUT-2"], text="new"), Rejection.FROM_THE_USER),
        (patch("merge", ids=["AC-OUT-3", "AC-OUT-4"], text="mine one"), Rejection.DUPLICATE_TEXT),
    ],
)
def test_a_bad_patch_is_dropped_with_its_reason_and_its_neighbours_count(
    asked: Any, rejection: Rejection
) -> None:
    good = patch("add", text="something new")
    after, applied, rejected = apply_patches(STORY, [asked, good], ROLES)
    assert [each.rejection for each in rejected] == [rejection]
    assert [each.id for each in applied] == ["AC-OUT-5"]
    assert after.items(OUTCOME)[:-1] == STORY.items(OUTCOME)


def test_each_operation_does_what_it_says() -> None:
    asked = [
        patch("replace", "story.asA", text=" returning\ncustomer "),
        patch("replace", id="AC-OUT-1", text="mine, sharper"),
        patch("remove", id="AC-OUT-3"),
        patch("add", text="new", id="IGNORED-1"),
    ]
    after, applied, rejected = apply_patches(STORY, asked, ROLES)
    assert rejected == ()
    assert after.line("story.asA") == "returning customer"
    assert after.items(OUTCOME) == (
        Item("AC-OUT-1", "mine, sharper", INTAKE, original="mine one"),
        Item("AC-OUT-2", "mine two", INTAKE),
        Item("AC-OUT-4", "others", "user-roles", merged_from=("AC-OUT-9",)),
        Item("AC-OUT-5", "new", "user-roles"),
    )
    assert applied[3].as_json() == {
        "op": "add",
        "path": OUTCOME,
        "id": "AC-OUT-5",
        "text": "new",
        "reason": "why",
    }


def test_the_users_item_survives_a_merger_and_names_every_id_that_went_into_it() -> None:
    merger = patch("merge", ids=["AC-OUT-4", "AC-OUT-2", "AC-OUT-3"], text="all of it")
    after, applied, _ = apply_patches(STORY, [merger], CONSOLIDATION)
    assert after.items(OUTCOME)[1:] == (
        Item("AC-OUT-2", "all of it", INTAKE, ("AC-OUT-3", "AC-OUT-4", "AC-OUT-9"), "mine two"),
    )
    assert (applied[0].id, applied[0].ids) == ("AC-OUT-2", ("AC-OUT-4", "AC-OUT-3"))


@pytest.mark.parametrize(
    "asked", [patch("add", text="new"), patch("remove", id="AC-OUT-3")], ids=["add", "remove"]
)
def test_consolidation_neither_adds_nor_removes(asked: Any) -> None:
    after, _, rejected = apply_patches(STORY, [asked], CONSOLIDATION)
    assert after == STORY
    assert rejected[0].rejection is Rejection.OPERATION_NOT_ALLOWED


def test_twelve_patches_are_the_most_and_rejected_ones_do_not_count() -> None:
    asked: list[Any] = [patch("add", text=f"text {n}") for n in range(MAX_PATCHES + 2)]
    _, applied, rejected = apply_patches(STORY, [None, *asked], FREE)
    assert len(applied) == MAX_PATCHES
    reasons = [each.rejection for each in rejected]
    assert reasons == [Rejection.MALFORMED, *[Rejection.TOO_MANY_PATCHES] * 2]


def test_an_endless_reply_is_looked_at_only_so_far() -> None:
    asked: list[Any] = [None] * MAX_ASKED
    _, applied, rejected = apply_patches(STORY, [*asked, patch("add", text="late")], FREE)
    assert (len(applied), len(rejected)) == (0, MAX_ASKED)


def test_a_full_story_takes_no_more_items_but_still_changes() -> None:
    story = Story()
    for number in range(MAX_ITEMS):
        story = story.with_item("edgeCases", Item(f"EDGE-{number + 1}", f"case {number}", "free"))
    asked = [
        patch("add", text="one more"),
        patch("remove", "edgeCases", id="EDGE-1"),
        patch("add", text="one more"),
    ]
    _, applied, rejected = apply_patches(story, asked, FREE)
    assert [each.rejection for each in rejected] == [Rejection.STORY_FULL]
    assert len(applied) == 2


def test_reasons_and_rejections_are_cut_short() -> None:
    long = patch("add", text="fine") | {"reason": "r" * 999}
    too_long = patch("add", text="x" * 9999)
    _, applied, rejected = apply_patches(STORY, [long, too_long], FREE)
    assert len(applied[0].reason) == MAX_REASON
    assert len(str(rejected[0].as_json())) < 300


IDS = st.sampled_from([f"{p}{n}" for p in ("AC-OUT-", "EDGE-", "UVB-") for n in range(1, 6)])
WORDS = st.sampled_from(["a", "b", "c", "mine one", "é" * MAX_TEXT, "x" * (MAX_TEXT + 1), "\x00"])
ASKED = st.one_of(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "replace", "remove", "merge"])},
        optional={
            "path": st.sampled_from([OUTCOME, "edgeCases", "story.iWant", "userVisibleBehavior"]),
            "id": IDS,
            "ids": st.lists(IDS, max_size=4),
            "text": WORDS | st.text(max_size=20),
            "reason": st.text(max_size=5),
        },
    ),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
    st.none(),
)
ROUNDS = st.lists(st.lists(ASKED, max_size=20), max_size=4)


@given(rounds=ROUNDS, rules=st.sampled_from([FREE, ROLES, CONSOLIDATION]))
def test_no_sequence_of_patches_breaks_the_story(rounds: list[list[Any]], rules: Iteration) -> None:
    story = STORY
    for asked in rounds:
        story, applied, rejected = apply_patches(story, asked, rules)
        assert len(applied) <= MAX_PATCHES
        assert len(applied) + len(rejected) == len(asked)
    items = [item for _, item in story.every_item()]
    assert len({item.id for item in items}) == len(items) <= MAX_ITEMS
    assert all(0 < len(item.text) <= MAX_TEXT for item in items)
    own = {item.id: item.original or item.text for item in items if item.iteration == INTAKE}
    assert own == {"AC-OUT-1": "mine one", "AC-OUT-2": "mine two"}
    assert Story.from_json(story.as_json()) == story


@given(rounds=ROUNDS)
def test_consolidation_never_loses_an_id(rounds: list[list[Any]]) -> None:
    story = STORY
    for asked in rounds:
        story, _, _ = apply_patches(story, asked, CONSOLIDATION)
    named = {name for _, item in story.every_item() for name in (item.id, *item.merged_from)}
    assert named == {"AC-OUT-1", "AC-OUT-2", "AC-OUT-3", "AC-OUT-4", "AC-OUT-9"}


@given(asked=st.lists(ASKED, max_size=20))
def test_the_same_patches_always_give_the_same_story(asked: list[Any]) -> None:
    assert apply_patches(STORY, asked, FREE) == apply_patches(STORY, asked, FREE)
