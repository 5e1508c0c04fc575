"""The description tells exactly what the API does, in a form that simple tools can read."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from service.agent.submission import Options
from service.api.openapi import describe
from service.api.operations import OPERATIONS
from service.api.routes import ROUTES
from service.api.submission import Submission

_DESCRIPTION = describe(ROUTES, "1.2.3")
_METHODS = {"get", "post", "delete"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every described operation with its path and method."""
    for path, methods in _DESCRIPTION["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def schema(name: str) -> dict[str, Any]:
    """A described schema."""
    described: dict[str, Any] = _DESCRIPTION["components"]["schemas"][name]
    return described


def walk(node: object) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(node, dict):
        yield node
        for member in node.values():
            yield from walk(member)
    elif isinstance(node, list):
        for item in node:
            yield from walk(item)


def resolve(reference: str) -> object:
    """What a reference within the document points to."""
    node: Any = _DESCRIPTION
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_it_says_what_it_is() -> None:
    assert _DESCRIPTION["openapi"].startswith("3.1.")
    assert _DESCRIPTION["info"]["version"] == "1.2.3"


def test_every_operation_of_the_url_table_is_described_once() -> None:
    described = sorted(operation["operationId"] for _, _, operation in operations())
    assert described == sorted(route.operation for route in ROUTES if route.operation is not None)
    assert described == sorted(OPERATIONS)


def test_tools_can_be_named_after_operations() -> None:
    for _, method, operation in operations():
        assert method in _METHODS
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])
        assert operation["summary"]
        assert operation["description"].endswith(".")


def test_every_reference_leads_somewhere() -> None:
    references = [node["$ref"] for node in walk(_DESCRIPTION) if "$ref" in node]
    assert references
    assert all(resolve(reference) for reference in references)


def test_the_names_in_a_path_are_its_parameters() -> None:
    for path, _, operation in operations():
        told = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
        assert told == set(re.findall(r"\{(\w+)\}", path))


def test_whatever_needs_a_key_says_so() -> None:
    scopes = {route.operation: route.scope for route in ROUTES}
    for _, _, operation in operations():
        is_guarded = scopes[operation["operationId"]] is not None
        assert bool(operation["security"]) == is_guarded
        assert ("401" in operation["responses"]) == is_guarded


def test_errors_are_problem_documents() -> None:
    for _, _, operation in operations():
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and "$ref" in answer:
                [media_type] = _DESCRIPTION["components"]["responses"][f"Problem{status}"][
                    "content"
                ]
                assert media_type == "application/problem+json"


def test_a_stream_can_be_read_as_one_text_or_event_by_event() -> None:
    [stream] = [each for _, _, each in operations() if each["operationId"] == "stream_job"]
    described = stream["responses"]["200"]["content"]["text/event-stream"]["schema"]
    as_text, as_events = described["anyOf"]
    assert as_text == {"type": "string"}
    assert schema(as_events["$ref"].rpartition("/")[2])["required"] == ["event", "data"]


def test_the_body_is_flat_and_small() -> None:
    described = schema("Submission")
    assert set(described["properties"]) == set(Submission.model_fields)
    assert described["required"] == ["story"]
    assert all(isinstance(each.get("type"), str) for each in described["properties"].values())
    assert not [node for node in walk(described) if "anyOf" in node or "oneOf" in node]


def test_names_are_not_repeated_as_titles() -> None:
    properties = [node["properties"] for node in walk(_DESCRIPTION) if "properties" in node]
    assert properties
    assert not [p for each in properties for p in each.values() if "title" in p]


def _options() -> dict[str, Any]:
    return Options.model_json_schema(by_alias=True)


def test_the_options_are_those_the_default_agent_takes() -> None:
    told = schema("Submission")["properties"]["options"]["properties"]
    assert set(told) == set(_options()["properties"])


def test_the_product_context_is_what_the_default_agent_takes() -> None:
    told = schema("Submission")["properties"]["options"]["properties"]["productContext"]
    assert set(told["properties"]) == set(_options()["$defs"]["ProductContext"]["properties"])


@pytest.mark.parametrize("name", ["productType", "quality"])
def test_every_choice_told_is_one_the_default_agent_takes(name: str) -> None:
    told = schema("Submission")["properties"]["options"]["properties"][name]["enum"]
    assert told
    for choice in told:
        assert Options.model_validate({name: choice}).model_dump(by_alias=True)[name] == choice


def test_what_must_be_given_is_told_as_required() -> None:
    required = {
        (operation["operationId"], parameter["name"])
        for _, _, operation in operations()
        for parameter in operation.get("parameters", ())
        if parameter["required"] and parameter["in"] != "path"
    }
    assert required == {("preview_workflow", "productType")}


def test_what_is_limited_says_how_a_caller_learns_of_its_limit() -> None:
    limited = {route.operation for route in ROUTES if route.limit is not None}
    refusal = _DESCRIPTION["components"]["responses"]["Problem429"]
    assert set(refusal["headers"]) == {"Retry-After", "RateLimit", "RateLimit-Policy"}
    for _, _, operation in operations():
        is_limited = operation["operationId"] in limited
        assert ("429" in operation["responses"]) == is_limited
        for status, answer in operation["responses"].items():
            if status.startswith("2"):
                told = {"RateLimit", "RateLimit-Policy"} if is_limited else set()
                assert set(answer.get("headers", ())) == told
