"""A caller gets the representation it ranks highest."""

import pytest

from service.api.negotiation import preference
from tests.unit.api.requests import a_request


def prefers_markdown(accept: str | None) -> bool:
    """Whether Markdown ranks above JSON."""
    request = a_request(headers={} if accept is None else {"Accept": accept})
    markdown, as_json = (
        preference(request, media_type) for media_type in ("text/markdown", "application/json")
    )
    return markdown[0] > 0 and markdown > as_json


@pytest.mark.parametrize(
    "accept",
    [
        "text/markdown",
        "TEXT/Markdown; charset=utf-8",
        "text/markdown, */*",
        "*/*, text/markdown",
        "text/*",
        "application/json;q=0.5, text/markdown;q=0.9",
        "text/markdown;q=0.001",
    ],
)
def test_whoever_asks_for_markdown_gets_it(accept: str) -> None:
    assert prefers_markdown(accept)


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "application/json",
        "application/json, text/markdown",
        "text/markdown;q=0",
        "text/markdown;q=0, */*",
        "text/markdown; q=0.4, application/json; q=0.5",
        "text/html",
        ",;,;q=;",
    ],
)
def test_all_others_get_json(accept: str | None) -> None:
    assert not prefers_markdown(accept)


def test_the_most_exact_range_decides() -> None:
    request = a_request(headers={"Accept": "*/*;q=0.9, text/*;q=0.2, text/markdown;q=0.5"})
    assert preference(request, "text/markdown") == (0.5, 2)
    assert preference(request, "text/plain") == (0.2, 1)
    assert preference(request, "application/json") == (0.9, 0)


def test_a_malformed_quality_counts_as_one() -> None:
    assert preference(a_request(headers={"Accept": "text/plain;q=2"}), "text/plain") == (1.0, 2)
