"""The structured story and its JSON form."""

from hypothesis import given
from hypothesis import strategies as st

from service.domain.story import (
    INTAKE,
    LIST_PATHS,
    PREFIXES,
    STORY_PATHS,
    Item,
    Story,
    clean_text,
    sameness_key,
)

TEXTS = st.text(min_size=1, max_size=40)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    story = Story(title=draw(TEXTS))
    for path in draw(st.lists(st.sampled_from(STORY_PATHS), unique=True)):
        story = story.with_line(path, draw(TEXTS))
    for path in draw(st.lists(st.sampled_from(LIST_PATHS), max_size=8)):
        origin = draw(st.sampled_from([INTAKE, "security"]))
        merged = tuple(draw(st.lists(st.sampled_from(["EDGE-90", "UVB-91"]), unique=True)))
        original = draw(st.none() | TEXTS)
        item = Item(story.next_id(path), draw(TEXTS), origin, merged, original)
        story = story.with_item(path, item)
    return story


@given(story=stories())
def test_a_story_survives_its_json_form(story: Story) -> None:
    assert Story.from_json(story.as_json()) == story


def test_the_json_form_always_has_every_list() -> None:
    shown = Story().as_json()
    assert shown["story"] == {"asA": "", "iWant": "", "soThat": ""}
    assert shown["implementationNotes"] == {
        "performance": [],
        "loadingStates": [],
        "security": [],
        "telemetry": [],
    }
    assert [key for key, value in shown.items() if value == []] == [
        path for path in LIST_PATHS if "." not in path
    ]


def test_items_are_numbered_per_list_and_a_number_is_never_given_twice() -> None:
    story = Story()
    for path, prefix in PREFIXES.items():
        for number in (1, 2):
            assert story.next_id(path) == f"{prefix}{number}"
            story = story.with_item(path, Item(story.next_id(path), "x", "security"))
    emptied = story.with_list("edgeCases", ())
    assert emptied.next_id("edgeCases") == "EDGE-3"
    survivor = Item("EDGE-1", "x", "security", merged_from=("EDGE-7",))
    merged = Story.from_json(Story().with_item("edgeCases", survivor).as_json())
    assert merged.next_id("edgeCases") == "EDGE-8"


def test_a_reworded_item_of_the_user_keeps_the_first_wording() -> None:
    item = Item("UVB-1", "mine", INTAKE)
    assert item.reworded("b").reworded("c") == Item("UVB-1", "c", INTAKE, original="mine")
    assert item.reworded("mine").original is None
    assert Item("UVB-1", "a", "security").reworded("b").original is None


@given(text=st.text(alphabet=st.characters()))
def test_cleaned_text_is_one_storable_line(text: str) -> None:
    cleaned = clean_text(text)
    assert "\x00" not in cleaned
    assert len(cleaned.splitlines()) <= 1
    assert cleaned == cleaned.strip()
    assert cleaned.encode().decode() == cleaned
    assert clean_text(cleaned) == cleaned


def test_texts_that_differ_only_in_form_are_the_same() -> None:
    assert sameness_key("  The CARD is\nshown. ") == sameness_key("the card is shown")
    assert sameness_key("ﬁle") == sameness_key("File")
    assert sameness_key("a card") != sameness_key("the card")
    assert sameness_key("...") != sameness_key("!!!")
