"""A story as Markdown."""

import re

from hypothesis import given
from hypothesis import strategies as st

from service.domain.intake import read_story
from service.domain.iterations import ITERATIONS
from service.domain.markdown import render_markdown
from service.domain.patches import apply_patches
from service.domain.story import AS_A, EDGE_CASES, SECURITY, Item, Story

TEXT = "As an editor, I want drafts so that I can wait.\nAC:\n- Saved *often*"


def test_a_story_is_rendered_with_its_lists_and_the_text_it_came_from() -> None:
    note = {"op": "add", "path": SECURITY, "text": "Mind <b> & [x](y)", "reason": ""}
    story, _, _ = apply_patches(read_story(TEXT), [note], ITERATIONS["security"])
    assert render_markdown(story, TEXT) == (
        "# Drafts\n\n"
        "**As an** editor,  \n**I want** drafts,  \n**so that** I can wait.\n\n"
        "## Acceptance criteria: outcome\n\n"
        "- [AC-OUT-1] Saved \\*often\\*\n\n"
        "## Implementation notes\n\n### Security\n\n"
        "- [IMPL-SEC-1] Mind \\<b\\> & \\[x\\](y)\n\n"
        f"## Original story\n\n```text\n{TEXT}\n```\n"
    )


def test_an_article_in_the_role_is_not_doubled() -> None:
    story = Story("T").with_line(AS_A, "a cook")
    assert "**As a** cook." in render_markdown(story, "")


@given(text=st.text(alphabet="`a\n ", max_size=40))
def test_no_text_closes_the_fence_around_it(text: str) -> None:
    block = render_markdown(Story("T"), text).partition("## Original story\n\n")[2]
    fence = re.match("`+", block)
    assert fence is not None
    assert block == f"{fence[0]}text\n{text}\n{fence[0]}\n"
    assert fence[0] not in text


@given(text=st.text(max_size=30))
def test_an_item_is_one_bullet_whatever_it_says(text: str) -> None:
    item = Item("EDGE-1", text.replace("\n", " ").replace("\r", " "), "x")
    rendered = render_markdown(Story("T").with_item(EDGE_CASES, item), "")
    body = rendered.partition("- [EDGE-1]")[2].partition("\n\n## Original")[0]
    assert re.search(r"(?<!\\)(?:\\\\)*[<>*_\[\]`]", body) is None
