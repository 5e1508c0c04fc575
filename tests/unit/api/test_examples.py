"""Every body and every answer has an example, made of what the service itself writes."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.api.examples import EXAMPLES
from service.api.openapi import describe
from service.api.operation import JSON, Operation
from service.api.operations import OPERATIONS
from service.api.routes import ROUTES
from tests.unit.api.test_openapi import walk

_DESCRIPTION = describe(ROUTES, "1.2.3")


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Where there is a body or an answer, and what it is described as."""
    for methods in _DESCRIPTION["paths"].values():
        for operation in methods.values():
            name = operation["operationId"]
            for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
                yield f"{name} {media_type}", content
            for status, answer in operation["responses"].items():
                for media_type, content in answer.get("content", {}).items():
                    yield f"{name} {status} {media_type}", content
    for name, answer in _DESCRIPTION["components"]["responses"].items():
        for media_type, content in answer["content"].items():
            yield f"{name} {media_type}", content


def test_every_body_and_every_answer_has_an_example() -> None:
    assert [where for where, content in contents() if not content.get("example")] == []
    assert len(dict(contents())) > 30


def test_no_example_is_left_of_an_operation_that_is_gone() -> None:
    for name, examples in EXAMPLES.items():
        assert examples.keys() <= OPERATIONS[name].answers.keys()


def test_a_problem_of_each_status_is_one_of_that_status() -> None:
    for name, answer in _DESCRIPTION["components"]["responses"].items():
        [content] = answer["content"].values()
        assert name == f"Problem{content['example']['status']}"


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS.values() if each.body], ids=lambda each: each.summary
)
def test_a_body_that_is_an_example_is_taken(operation: Operation) -> None:
    [content] = [
        described["requestBody"]["content"][JSON]
        for methods in _DESCRIPTION["paths"].values()
        for described in methods.values()
        if described["summary"] == operation.summary
    ]
    assert operation.body is not None
    taken = operation.body.model_validate(content["example"])
    assert taken.model_dump(mode="json", exclude_unset=True) == content["example"]


def test_bodies_and_parameters_need_no_unions() -> None:
    schemas = _DESCRIPTION["components"]["schemas"]
    bodies = [schemas[each.body.__name__] for each in OPERATIONS.values() if each.body]
    parameters = [p.schema for each in OPERATIONS.values() for p in each.parameters]
    unions = {"anyOf", "oneOf", "allOf", "not", "discriminator"}
    assert [node for node in walk([bodies, parameters]) if unions & node.keys()] == []


def test_elsewhere_a_union_only_says_that_something_may_be_null() -> None:
    choices = [node["anyOf"] for node in walk(_DESCRIPTION) if "anyOf" in node]
    # A stream is read event by event, or as one text.
    choices.remove([{"type": "string"}, {"$ref": "#/components/schemas/StreamedEvent"}])
    assert choices
    assert {str(choice[1:]) for choice in choices} == {"[{'type': 'null'}]"}
