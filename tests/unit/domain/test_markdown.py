"""A story as Markdown."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.intake import read_story
from service.domain.iterations import ITERATIONS
from service.domain.markdown import render_markdown
from service.domain.patches import apply_patches
from service.domain.story import AS_A, EDGE_CASES, I_WANT, SECURITY, Item, Story

TEXT = "As an editor, I want drafts so that I can wait.\nAC:\n- Saved *often*"


def rendered(story: Story, original: str = "", origins: Mapping[str, str] | None = None) -> str:
    return render_markdown(story, original, origins or {})


def test_a_story_is_rendered_with_its_lists_and_the_text_it_came_from() -> None:
    note = {"op": "add", "path": SECURITY, "text": "Mind <b> & [x](y)", "reason": ""}
    story, _, _ = apply_patches(read_story(TEXT), [note], ITERATIONS["security"])
    assert rendered(story, TEXT) == (
        "# Drafts\n\n"
        "**As an** editor,  \n**I want** drafts,  \n**so that** I can wait.\n\n"
        "## Acceptance criteria: outcome\n\n"
        "- [AC-OUT-1 · intake] Saved \\*often\\*\n\n"
        "## Implementation notes\n\n### Security\n\n"
        "- [IMPL-SEC-1 · security] Mind \\<b\\> & \\[x\\](y)\n\n"
        f"## Original story\n\n```text\n{TEXT}\n```\n"
    )


def test_a_merged_item_names_every_other_iteration_that_went_into_it() -> None:
    merged = ("EDGE-2", "EDGE-3", "EDGE-4", "EDGE-5", "EDGE-9")
    story = Story("T").with_item(EDGE_CASES, Item("EDGE-1", "all", "user-roles", merged))
    origins = {
        "EDGE-2": "validation",
        "EDGE-3": "user-roles",
        "EDGE-4": "validation",
        "EDGE-5": "security",
    }
    assert "- [EDGE-1 · user-roles, with validation, security] all\n" in rendered(
        story, origins=origins
    )
    own = dict.fromkeys(merged, "user-roles")
    assert "- [EDGE-1 · user-roles] all\n" in rendered(story, origins=own)


def test_an_article_in_the_role_is_not_doubled() -> None:
    story = Story("T").with_line(AS_A, "a cook")
    assert "**As a** cook." in rendered(story)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", r"\<script\>alert(1)\</script\>"),
        ("![x](http://x) [y]: z", r"!\[x\](http://x) \[y\]: z"),
        ("`a` *b* _c_ ~d~ |e|", r"\`a\` \*b\* \_c\_ \~d\~ \|e\|"),
        ("&lt;b&gt; &#60; Q&A", r"\&lt;b\&gt; \&#60; Q&A"),
        ("back\\slash", r"back\\slash"),
        ("in C# or F#", r"in C# or F\#"),
        ("one\n## two\r- three\u2028four", "one ## two - three four"),
        ("a \u202eb\u2066", "a b"),
    ],
)
def test_titles_sentences_and_items_are_nothing_but_text(text: str, shown: str) -> None:
    story = Story(text).with_line(I_WANT, text).with_item(EDGE_CASES, Item("EDGE-1", text, "x"))
    lines = rendered(story).splitlines()
    assert lines[0] == f"# {shown}"
    assert lines[2] == f"**I want** {shown}."
    assert f"- [EDGE-1 · x] {shown}" in lines


@given(text=st.text(alphabet="`a\n ", max_size=40))
def test_no_text_closes_the_fence_around_it(text: str) -> None:
    block = rendered(Story("T"), text).partition("## Original story\n\n")[2]
    fence = re.match("`+", block)
    assert fence is not None
    assert block == f"{fence[0]}text\n{text}\n{fence[0]}\n"
    assert fence[0] not in text


@given(text=st.text(max_size=30) | st.text(alphabet="\n\r\x85\u2028#-*<", max_size=30))
def test_an_item_is_one_bullet_whatever_it_says(text: str) -> None:
    story = Story("T").with_item(EDGE_CASES, Item("EDGE-1", text, "x"))
    body = rendered(story).partition("- [EDGE-1 · x]")[2].partition("\n\n## Original")[0]
    assert len(body.splitlines()) <= 1
    assert re.search(r"(?<!\\)(?:\\\\)*[<>*_\[\]`]", body) is None
