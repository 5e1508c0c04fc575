"""The page shows all of the description, needs nothing else, and takes no text for markup."""

import base64
import hashlib
import re
import shlex
from html.parser import HTMLParser
from typing import Any

import pytest

from service.api.docs_page import POLICY, curl, render_page
from service.api.html import element, joined, prose
from service.api.openapi import describe
from service.api.routes import ROUTES
from service.api.statuses import CODES

_DESCRIPTION = describe(ROUTES, "1.2.3")
_VOID = {"meta"}


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, texts, and what is not closed."""

    def __init__(self, page: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, attribute: str) -> list[str]:
        """Every value of an attribute, in order."""
        return [found for _, attrs in self.elements if (found := attrs.get(attribute)) is not None]


PAGE_BYTES = render_page(_DESCRIPTION)
PAGE = Page(PAGE_BYTES)


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in _DESCRIPTION["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_element_is_closed_and_every_id_is_there_once() -> None:
    assert PAGE.open == []
    ids = PAGE.all("id")
    assert len(ids) == len(set(ids))


def test_every_operation_and_every_schema_has_its_place_and_a_link_to_it() -> None:
    places = {operation["operationId"] for _, _, operation in operations()}
    places |= {f"schema-{name}" for name in _DESCRIPTION["components"]["schemas"]}
    assert places <= set(PAGE.all("id"))
    # What nobody refers to needs no link.
    named = {operation["operationId"] for _, _, operation in operations()}
    assert {f"#{name}" for name in named} <= set(PAGE.all("href"))


def test_every_link_leads_somewhere_on_the_page_or_to_the_description() -> None:
    links = {link for link in PAGE.all("href") if link != "/openapi.json"}
    assert links <= {f"#{place}" for place in PAGE.all("id")}


def test_paths_parameters_statuses_and_examples_are_told() -> None:
    shown = set(PAGE.texts)
    for method, path, operation in operations():
        assert {method, path} <= shown
        assert {each["name"] for each in operation.get("parameters", ())} <= shown
        assert set(operation["responses"]) <= shown
    assert "019abf52-6d1c-7a35-8a42-1f5b8f0c9d27" in PAGE_BYTES.decode()


def test_every_code_of_a_refusal_is_told_as_code() -> None:
    told = {code for codes in CODES.values() for code in codes}
    # No operation of the description can be asked with a wrong method.
    assert told - set(PAGE.texts) == {"METHOD_NOT_ALLOWED"}


def test_members_of_objects_inside_an_object_are_told() -> None:
    assert {"story", "options.productContext.audience", "tokenUsage"} <= set(PAGE.texts)


def test_nothing_is_loaded_and_nothing_runs() -> None:
    used = {tag for tag, _ in PAGE.elements}
    assert used.isdisjoint({"script", "link", "img", "iframe", "object", "form", "base", "video"})
    attributes = {name for _, attrs in PAGE.elements for name in attrs}
    assert attributes.isdisjoint({"src", "srcset", "style", "action"})
    assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in PAGE_BYTES.decode()
    assert "@import" not in PAGE_BYTES.decode()


def test_the_policy_allows_the_pages_own_style_and_nothing_else() -> None:
    [style] = re.findall(r"<style>(.*?)</style>", PAGE_BYTES.decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules.pop("style-src") == f"'sha256-{digest}'"
    assert set(rules) == {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert set(rules.values()) == {"'none'"}


def test_it_is_for_dark_rooms_small_screens_and_keyboards() -> None:
    page = PAGE_BYTES.decode()
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page
    assert ":focus-visible" in page
    # What scrolls can be reached without a mouse.
    for tag, attrs in PAGE.elements:
        if tag == "pre" or attrs.get("class") == "scroll":
            assert attrs.get("tabindex") == "0"


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '"><img src=x>', "</style>", "&"])
def test_no_text_becomes_markup(hostile: str) -> None:
    hurt = describe(ROUTES, hostile)
    operation = hurt["paths"]["/api/v1/jobs"]["post"]
    operation["summary"] = operation["description"] = operation["operationId"] = hostile
    operation["requestBody"]["content"]["application/json"]["example"] = {hostile: hostile}
    hurt["components"]["schemas"]["Health"]["description"] = f"`{hostile}`"

    page = Page(render_page(hurt))

    assert page.open == []
    tags = {tag for tag, _ in page.elements}
    assert tags == {tag for tag, _ in PAGE.elements}
    assert any(hostile in text for text in page.texts)


def test_texts_are_escaped_and_markup_is_kept() -> None:
    assert element("p", "a < b", element("b", "c")) == "<p>a &lt; b<b>c</b></p>"
    assert element("a", "x", href='"', class_="y", aria_label="z") == (
        '<a href="&quot;" class="y" aria-label="z">x</a>'
    )
    assert joined("<", element("i", ">")) == "&lt;<i>&gt;</i>"
    assert prose("`a<b` & c") == "<code>a&lt;b</code> &amp; c"


def test_a_command_is_what_a_shell_takes_it_for() -> None:
    [(method, path, operation)] = [o for o in operations() if o[2]["operationId"] == "create_job"]
    operation = {**operation, "requestBody": {"content": {"application/json": {}}}}
    operation["requestBody"]["content"]["application/json"]["example"] = {
        "story": 'it\'s "so" $HOME'
    }
    words = shlex.split(curl(method, path, operation).replace("\\\n", ""))
    assert words == [
        *("curl", "-s", "-X", "POST", "$USA_API_URL/api/v1/jobs"),
        *("-H", "Authorization: Bearer $USA_API_KEY"),
        *("-H", "Content-Type: application/json"),
        *("-d", '{"story": "it\'s \\"so\\" $HOME"}'),
    ]
