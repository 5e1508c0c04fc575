"""Schemas for people: what a value is, and which members an object has."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from service.api.html import Html, element, joined, prose
from service.api.operation import JsonSchema

_PREFIX: Final = "#/components/schemas/"
_BOUNDS: Final = (
    ("format", "format"),
    ("minimum", "at least"),
    ("exclusiveMinimum", "more than"),
    ("maximum", "at most"),
    ("minLength", "shortest"),
    ("maxLength", "longest"),
    ("minItems", "fewest"),
    ("maxItems", "most"),
    ("pattern", "matches"),
    ("default", "default"),
)


def schema_id(name: str) -> str:
    """Return where a schema is on the page."""
    return f"schema-{name}"


def kind_of(schema: JsonSchema) -> Html:
    """Say what a value is, with a link to the schema that it refers to."""
    match schema:
        case {"$ref": str(reference)}:
            name = reference.removeprefix(_PREFIX)
            return element("a", name, href=f"#{schema_id(name)}")
        case {"anyOf": [*choices]}:
            return _either([kind_of(choice) for choice in choices])
        case {"enum": [*values]}:
            return _either([element("code", str(value)) for value in values])
        case {"type": [*kinds]}:
            return _either([kind_of({**schema, "type": kind}) for kind in kinds])
        case {"type": "array", "items": dict(items)}:
            return joined("list of ", kind_of(items))
        case _:
            return joined(str(schema.get("type", "anything")))


def _either(kinds: Sequence[Html]) -> Html:
    return joined(*_between(" or ", kinds))


def _between(separator: str, parts: Sequence[Html]) -> list[str]:
    return [each for part in parts for each in (separator, part)][1:]


def notes_on(schema: JsonSchema) -> Html:
    """Say what a value means and between which bounds it is."""
    bounds = [
        joined(f"{word} ", element("code", _told(schema[key])))
        for key, word in _BOUNDS
        if key in schema
    ]
    meaning = prose(str(schema.get("description", "")))
    if not bounds:
        return meaning
    told = element("small", "(", *_between(", ", bounds), ")")
    return joined(meaning, " ", told)


def _told(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def member_table(schema: JsonSchema) -> Html:
    """List the members of an object, those of objects inside it as well."""
    rows = [row for name, member in _members(schema) for row in _rows(name, member)]
    return table(("Name", "What it is", "Notes"), rows)


def _members(schema: JsonSchema) -> list[tuple[str, JsonSchema]]:
    members: JsonSchema = schema.get("properties", {})
    return list(members.items())


def _rows(path: str, schema: JsonSchema) -> Iterator[tuple[Html, Html, Html]]:
    yield element("code", path), kind_of(schema), notes_on(schema)
    for name, member in _members(schema):
        yield from _rows(f"{path}.{name}", member)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """Make a table that scrolls by itself where there is little room."""
    head = element("tr", *(element("th", text, scope="col") for text in heading))
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    inner = element("table", element("thead", head), element("tbody", *body))
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label="Table")
