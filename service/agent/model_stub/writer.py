"""Replies that fit the request: its output schema, and what its prompt allows to change."""

import hashlib
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import orjson

from service.agent.model_stub.rules import blocks_of
from service.domain.job import JsonObject

Writer: TypeAlias = Callable[[JsonObject], str]

_OPERATIONS = re.compile(r"Operations you may use: (.*)")
_ALWAYS_ALLOWED_PATH = "openQuestions"
_PATH = re.compile(
    r"\b(userVisibleBehavior|outcomeAcceptanceCriteria|systemAcceptanceCriteria"
    r"|implementationNotes\.(?:performance|loadingStates|security|telemetry))\b"
)


def write_reply(body: JsonObject) -> str:
    """Draft two additions where they are allowed, or approve, or fill in what the schema asks for.

    The same request always gets the same reply.
    """
    schema = (body.get("output_config") or {}).get("format", {}).get("schema")
    if schema is None:
        return "This is a reply without a schema."
    reply = _example(schema, schema)
    if "patches" in reply:
        reply["patches"] = _patches(body, schema)
    if "score" in reply:
        reply |= {"score": 0.92, "issues": []}
    return orjson.dumps(reply).decode()


def _patches(body: JsonObject, root: dict[str, Any]) -> list[JsonObject]:
    rules = _most_specific(body)
    operations = _OPERATIONS.search(rules)
    if operations is not None and "`add`" not in operations[1]:
        return []
    found = _PATH.search(rules)
    path = found[1] if found else _ALWAYS_ALLOWED_PATH
    mark = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
    texts = (
        f"Given the story is in use, when an entry is left out, then the message names it ({mark})",
        f"Given a message is shown, when the entry is corrected, then it disappears ({mark})",
    )
    reason = "The story implies it."
    return [
        _addition(root, {"op": "add", "path": path, "text": text, "reason": reason})
        for text in texts
    ]


def _addition(root: dict[str, Any], wanted: JsonObject) -> JsonObject:
    """Fill in a patch, in the order of the schema and without what is optional."""
    items = _resolve(_resolve(root["properties"]["patches"], root)["items"], root)
    shapes = [_resolve(shape, root) for shape in items.get("anyOf", [items])]
    adding = [shape for shape in shapes if _allows_adding(shape)]
    shape = (adding or shapes)[0]
    needed = {*shape.get("required", ()), *wanted}
    return {
        name: wanted[name] if name in wanted else _example(child, root)
        for name, child in shape["properties"].items()
        if name in needed
    }


def _allows_adding(shape: dict[str, Any]) -> bool:
    op = shape.get("properties", {}).get("op", {})
    return "add" in op.get("enum", [op.get("const", "add")])


def _most_specific(body: JsonObject) -> str:
    """Return the last system block, which is the iteration's own."""
    blocks = blocks_of(body.get("system", []))
    return str(blocks[-1]["text"]) if blocks else ""


def _resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    for name in reference.removeprefix("#/").split("/"):
        root = root[name]
    return root


def _example(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    schema = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        nullable = {"type": "null"} in schema["anyOf"]
        return None if nullable else _example(schema["anyOf"][0], root)
    return _example_of_type(schema, root)


def _example_of_type(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    named = schema.get("type", "object")
    kind = named if isinstance(named, str) else named[0]
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _example(child, root) for name, child in properties.items()}
    if kind == "array":
        return [_example(schema["items"], root)] if schema.get("minItems") else []
    simple = {"string": "text", "integer": 1, "number": 0.5, "boolean": True}
    return simple.get(kind)
