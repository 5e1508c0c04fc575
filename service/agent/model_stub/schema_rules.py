"""Which JSON schemas structured outputs accept."""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

_KEYWORDS = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "default",
        "definitions",
        "description",
        "enum",
        "format",
        "items",
        "minItems",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    }
)
_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_SHAPES = frozenset({"type", "enum", "const", "anyOf", "allOf", "$ref"})


def schema_violation(schema: object) -> str | None:
    """Say what is wrong with an output schema, or None if it is acceptable."""
    if not isinstance(schema, dict):
        return "schema: Input should be a valid dictionary"
    return next(_violations(schema, "schema"), None) or _broken_reference(schema)


def _violations(schema: dict[str, Any], path: str) -> Iterator[str]:
    for keyword in schema.keys() - _KEYWORDS:
        yield f"{path}: '{keyword}' is not supported"
    if not schema.keys() & _SHAPES:
        yield f"{path}: a schema must have a type"
    yield from _type_violations(schema, path)
    for child_path, child in _children(schema, path):
        if isinstance(child, dict):
            yield from _violations(child, child_path)
        else:
            yield f"{child_path}: Input should be a valid dictionary"


def _type_violations(schema: dict[str, Any], path: str) -> Iterator[str]:
    named = schema.get("type", [])
    types = [named] if isinstance(named, str) else list(named)
    if not _TYPES.issuperset(types):
        yield f"{path}: unknown type"
    if "object" in types and schema.get("additionalProperties") is not False:
        yield f"{path}: for 'object' type, 'additionalProperties' must be explicitly set to false"
    unknown = set(schema.get("required", ())) - set(schema.get("properties", ()))
    if unknown:
        yield f"{path}: required properties are not defined"
    if schema.get("minItems", 0) not in (0, 1):
        yield f"{path}: for 'array' type, 'minItems' values other than 0 or 1 are not supported"
    if "format" in schema and schema["format"] not in _FORMATS:
        yield f"{path}: unknown format"


def _children(schema: dict[str, Any], path: str) -> Iterator[tuple[str, object]]:
    for group in ("properties", "$defs", "definitions"):
        for name, child in schema.get(group, {}).items():
            yield f"{path}.{group}.{name}", child
    for group in ("anyOf", "allOf"):
        for index, child in enumerate(schema.get(group, ())):
            yield f"{path}.{group}[{index}]", child
    if "items" in schema:
        yield f"{path}.items", schema["items"]


def _broken_reference(schema: dict[str, Any]) -> str | None:
    """Say which `$ref` leads nowhere or back to where it stands."""
    groups = ("$defs", "definitions")
    uses = {
        f"#/{group}/{name}": set(_references(child))
        for group in groups
        for name, child in schema.get(group, {}).items()
    }
    if unknown := set(_references(schema)) - uses.keys():
        return f"schema: '{min(unknown)}' is not defined"
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        return f"schema: recursive schemas are not supported: '{error.args[1][0]}'"
    return None


def _references(schema: dict[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        yield str(schema["$ref"])
    for _, child in _children(schema, ""):
        if isinstance(child, dict):
            yield from _references(child)
