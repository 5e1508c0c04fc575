"""The description as a page that needs no script, no other file and no network."""

import base64
import hashlib
import json
import shlex
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final

from service.api.docs_schemas import kind_of, member_table, notes_on, schema_id, table
from service.api.html import Html, element, joined, prose
from service.api.operation import EVENTS, JsonSchema

_STYLE: Final = (files("service.api") / "web" / "docs.css").read_text(encoding="utf-8")
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_LONGEST_OPEN: Final = 400


def render_page(document: JsonSchema) -> bytes:
    """Return the page about a description."""
    info = document["info"]
    title = f"{info['title']} {info['version']}"
    operations = list(_operations(document))
    tags = list(dict.fromkeys(operation["tags"][0] for _, _, operation in operations))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        # Escaped, it would be another style than the one that the policy allows.
        Html(f"<style>{_STYLE}</style>"),
    )
    body = element(
        "body",
        element("a", "Skip to the operations", href="#operations", class_="skip"),
        element("header", element("h1", title), element("p", prose(info["description"]))),
        element("nav", *(_contents(tag, operations) for tag in tags), aria_label="Operations"),
        element(
            "main",
            _introduction(document),
            *(_tag_section(tag, operations, document) for tag in tags),
            _schemas(document["components"]["schemas"]),
            id="operations",
        ),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n".encode()


Described = tuple[str, str, JsonSchema]


def _operations(document: JsonSchema) -> Iterator[Described]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _contents(tag: str, operations: list[Described]) -> Html:
    entries = [
        element("li", element("a", operation["summary"], href=f"#{operation['operationId']}"))
        for _, _, operation in operations
        if operation["tags"][0] == tag
    ]
    return joined(element("h2", tag), element("ul", *entries))


def _introduction(document: JsonSchema) -> Html:
    ways = [
        element("li", element("code", _credential(scheme)), ": ", prose(scheme["description"]))
        for scheme in document["components"]["securitySchemes"].values()
    ]
    machines = element("a", "/openapi.json", href="/openapi.json")
    return joined(
        element("p", "The same for machines: ", machines, ". Each request sends a credential:"),
        element("ul", *ways),
        element(
            "p",
            prose(
                "The commands below take the address of the service from `USA_API_URL` and the key "
                "from `USA_API_KEY`. Errors are problem documents (RFC 9457): programs read `code`."
            ),
        ),
    )


def _credential(scheme: JsonSchema) -> str:
    if scheme["type"] == "http":
        return "Authorization: Bearer ..."
    return f"{scheme['name']}: ..."


def _tag_section(tag: str, operations: list[Described], document: JsonSchema) -> Html:
    articles = [
        _article(method, path, operation, document)
        for method, path, operation in operations
        if operation["tags"][0] == tag
    ]
    return element("section", element("h2", tag), *articles)


def _article(method: str, path: str, operation: JsonSchema, document: JsonSchema) -> Html:
    name = operation["operationId"]
    call = element(
        "p",
        element("code", method, class_=f"method {method.lower()}"),
        " ",
        element("code", path),
        " ",
        element("small", name),
    )
    return element(
        "article",
        element("h3", element("a", operation["summary"], href=f"#{name}")),
        call,
        element("p", prose(operation["description"])),
        _parameters(operation),
        _body(operation),
        element("h4", "Answers"),
        *_answers(operation, document),
        element("h4", "Command"),
        element("pre", element("code", curl(method, path, operation)), tabindex="0"),
        id=name,
    )


def _parameters(operation: JsonSchema) -> Html:
    parameters = operation.get("parameters", [])
    if not parameters:
        return Html("")
    rows = [
        (
            element("code", each["name"]),
            f"{each['in']}, required" if each["required"] else each["in"],
            kind_of(each["schema"]),
            notes_on({**each["schema"], "description": each["description"]}),
        )
        for each in parameters
    ]
    heading = ("Name", "Where", "What it is", "Notes")
    return joined(element("h4", "Parameters"), table(heading, rows))


def _body(operation: JsonSchema) -> Html:
    body = operation.get("requestBody")
    if body is None:
        return Html("")
    optional = "" if body["required"] else " It may be left out."
    shown = [
        joined(
            element("p", kind_of(content["schema"]), f", {media_type}.{optional}"),
            _example(content),
        )
        for media_type, content in body["content"].items()
    ]
    return joined(element("h4", "Body"), *shown)


def _answers(operation: JsonSchema, document: JsonSchema) -> Iterator[Html]:
    problems: list[tuple[Html, Html]] = []
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            problem = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
            problems.append((element("code", status), prose(problem["description"])))
            continue
        yield element("p", element("code", status), " ", prose(answer["description"]))
        for media_type, content in answer.get("content", {}).items():
            yield element("p", kind_of(content["schema"]), f", {media_type}")
            yield _example(content)
    if problems:
        yield table(("Problem", "What happened"), problems)


def _example(content: JsonSchema) -> Html:
    example = content["example"]
    text = example if isinstance(example, str) else _json(example)
    summary = element("summary", "Example")
    shown = element("pre", element("code", text), tabindex="0")
    if len(text) <= _LONGEST_OPEN:
        return element("details", summary, shown, open="")
    return element("details", summary, shown)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def curl(method: str, path: str, operation: JsonSchema) -> str:
    """Return a command that makes the call, with the examples of the description."""
    address = path
    query = []
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            address = address.replace(f"{{{parameter['name']}}}", parameter["example"])
        elif parameter["required"]:
            query.append(f"{parameter['name']}={parameter['example']}")
    asked = f"?{'&'.join(query)}" if query else ""
    is_stream = any(EVENTS in each.get("content", {}) for each in operation["responses"].values())
    words = ["curl", "-sN" if is_stream else "-s"]
    if method != "GET":
        words += ["-X", method]
    lines = [f'{" ".join(words)} "$USA_API_URL{address}{asked}"']
    if operation["security"]:
        lines.append('-H "Authorization: Bearer $USA_API_KEY"')
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        lines.append(f"-H 'Content-Type: {media_type}'")
        lines.append(f"-d {shlex.quote(json.dumps(content['example'], ensure_ascii=False))}")
    return " \\\n  ".join(lines)


def _schemas(schemas: JsonSchema) -> Html:
    articles = [
        element(
            "article",
            element("h3", name),
            element("p", prose(schema.get("description", ""))),
            member_table(schema) if "properties" in schema else element("p", kind_of(schema)),
            id=schema_id(name),
        )
        for name, schema in schemas.items()
    ]
    return element("section", element("h2", "schemas"), *articles)
