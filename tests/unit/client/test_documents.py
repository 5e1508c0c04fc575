"""The types that the client promises are those that the service describes."""

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from service.api.openapi import describe
from service.api.routes import ROUTES
from service.client import documents

_SCHEMAS: dict[str, Any] = describe(ROUTES, "1.2.3")["components"]["schemas"]
_TYPED = [each for each in vars(documents).values() if is_typeddict(each)]
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def kinds(annotation: Any) -> set[str]:
    """The JSON types of an annotation, or the name of the one document it stands for."""
    origin = get_origin(annotation) or annotation
    if origin in {Union, UnionType}:
        return set().union(*map(kinds, get_args(annotation)))
    if origin is Literal:
        return {"string"}
    if is_typeddict(origin):
        return {origin.__name__}
    return {{list: "array", dict: "object", **_PLAIN}[origin]}


def described(schema: dict[str, Any]) -> set[str]:
    """The same of a schema."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {name} if "properties" in _SCHEMAS[name] else {_SCHEMAS[name]["type"]}
    if "anyOf" in schema:
        return set().union(*map(described, schema["anyOf"]))
    kind = schema["type"]
    return {*kind} if isinstance(kind, list) else {kind}


@pytest.mark.parametrize("document", _TYPED, ids=lambda each: str(each.__name__))
def test_a_document_has_exactly_the_members_that_are_described(document: type) -> None:
    schema = _SCHEMAS[document.__name__]
    hints = get_type_hints(document)
    assert hints.keys() == schema["properties"].keys()
    for name, annotation in hints.items():
        assert kinds(annotation) == described(schema["properties"][name]), name


@pytest.mark.parametrize(
    ("document", "name", "schema"),
    [
        (documents.JobSummary, "status", _SCHEMAS["JobStatus"]),
        (documents.JobReceipt, "status", _SCHEMAS["JobStatus"]),
        (documents.DeletedJob, "status", _SCHEMAS["DeletedJob"]["properties"]["status"]),
    ],
)
def test_a_choice_has_exactly_the_words_that_are_described(
    document: type, name: str, schema: dict[str, Any]
) -> None:
    assert set(get_args(get_type_hints(document)[name])) == set(schema["enum"])


def test_the_lists_of_a_page_hold_what_is_described() -> None:
    (item,) = get_args(get_type_hints(documents.JobPage)["jobs"])
    assert kinds(item) == described(_SCHEMAS["JobPage"]["properties"]["jobs"]["items"])
