"""The OpenAPI 3.1 description, made from the models that validate requests and write answers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema
from pydantic_core.core_schema import NullableSchema, WithDefaultSchema

from service.api.documents import Document, ProblemDocument
from service.api.examples import EXAMPLES, PLAIN_EXAMPLES, PROBLEM_EXAMPLES
from service.api.operation import EVENTS, JSON, Answer, JsonSchema, Operation, Parameter
from service.api.operations import OPERATIONS
from service.api.problems import CONTENT_TYPE
from service.api.routing import Route
from service.api.statuses import CODES, title_of

DOCUMENT: Final = web.AppKey("openapi", bytes)

_SCHEMAS = "#/components/schemas/"
_TEXT = {"type": "string"}
_SECURITY: Sequence[JsonSchema] = ({"bearer": []}, {"apiKey": []})
# Whoever must be recognised can be refused, and needs the server that knows the keys.
_WITH_KEY = (401, 403, 500, 503)
_TOO_MANY = 429
_RATE = {
    "RateLimit": "How many requests are left now (`r`), and in how many seconds there will be one "
    "more (`t`). Left out where nothing is limited.",
    "RateLimit-Policy": "How many requests are allowed (`q`) in how many seconds (`w`).",
}
_RETRY_AFTER = {"Retry-After": "In how many seconds to try again."}


async def answer_openapi(request: web.Request) -> web.StreamResponse:
    """Answer with the description."""
    return web.Response(body=request.config_dict[DOCUMENT], content_type=JSON)


def describe(routes: Iterable[Route], version: str) -> JsonSchema:
    """Describe the routes that have an operation name."""
    paths: dict[str, JsonSchema] = {}
    for route in routes:
        if route.operation is not None:
            operation = _operation(route, OPERATIONS[route.operation])
            paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "User story service",
            "version": version,
            "description": "Improves user stories as jobs that can be watched, repeated safely "
            "and cancelled.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "responses": {f"Problem{status}": _problem(status) for status in _statuses()},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An API key (`usa_...`), or a JWT where the service trusts "
                    "an OpenID Connect issuer.",
                },
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-API-Key",
                    "description": "An API key (`usa_...`).",
                },
            },
        },
    }


def _operation(route: Route, operation: Operation) -> JsonSchema:
    description, scope = operation.description, route.scope
    if scope is not None:
        description += f" Needs the scope `{scope}`."
    described: JsonSchema = {
        "operationId": route.operation,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": description,
        "security": list(_SECURITY) if scope is not None else [],
        "responses": _responses(operation, route),
    }
    if operation.parameters:
        described["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.body is not None:
        example = operation.body.model_json_schema()["examples"][0]
        content = {JSON: {"schema": _reference(operation.body), "example": example}}
        described["requestBody"] = {
            "required": operation.is_body_required,
            "content": content,
        }
    return described


def _parameter(parameter: Parameter) -> JsonSchema:
    described: JsonSchema = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "required": parameter.is_required or parameter.place == "path",
        "schema": parameter.schema,
    }
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _responses(operation: Operation, route: Route) -> JsonSchema:
    refused = {*operation.problems, *(_WITH_KEY if route.scope is not None else ())}
    if route.limit is not None:
        refused.add(_TOO_MANY)
    problems: JsonSchema = {
        str(status): {"$ref": f"#/components/responses/Problem{status}"}
        for status in sorted(refused - operation.answers.keys())
    }
    told = _headers(_RATE) if route.limit is not None else {}
    examples = EXAMPLES.get(route.operation or "", {})
    answers = {
        str(status): _answer(answer, examples.get(status)) | told
        for status, answer in operation.answers.items()
    }
    return answers | problems


def _headers(meanings: Mapping[str, str]) -> JsonSchema:
    described = {name: {"description": m, "schema": _TEXT} for name, m in meanings.items()}
    return {"headers": described}


def _answer(answer: Answer, example: Document | None) -> JsonSchema:
    described: JsonSchema = {"description": answer.description}
    if answer.content:
        described["content"] = {
            media_type: _content(media_type, model, example)
            for media_type, model in answer.content.items()
        }
    return described


def _content(
    media_type: str, model: type[BaseModel] | None, example: Document | None
) -> JsonSchema:
    if model is None:
        kind = "object" if media_type == JSON else "string"
        return {"schema": {"type": kind}, "example": PLAIN_EXAMPLES[media_type]}
    schema = _reference(model)
    if media_type == EVENTS:  # some clients read a stream event by event, and others as one text
        schema = {"anyOf": [{"type": "string"}, schema]}
    described: JsonSchema = {"schema": schema}
    return described if example is None else {**described, "example": _shown(example)}


def _shown(example: Document) -> JsonSchema:
    return example.model_dump(mode="json", by_alias=True)


def _reference(model: type[BaseModel]) -> JsonSchema:
    return {"$ref": _SCHEMAS + model.__name__}


def _statuses() -> list[int]:
    own = {status for operation in OPERATIONS.values() for status in operation.problems}
    return sorted({*own, *_WITH_KEY, _TOO_MANY})


def _problem(status: int) -> JsonSchema:
    example = _shown(PROBLEM_EXAMPLES[status])
    content = {CONTENT_TYPE: {"schema": _reference(ProblemDocument), "example": example}}
    codes = ", ".join(f"`{code}`" for code in CODES[status])
    described: JsonSchema = {"description": f"{title_of(status)}: {codes}", "content": content}
    return described | (_headers(_RETRY_AFTER | _RATE) if status == _TOO_MANY else {})


def _schemas() -> JsonSchema:
    modes: dict[type[BaseModel], JsonSchemaMode] = {ProblemDocument: "serialization"}
    for operation in OPERATIONS.values():
        if operation.body is not None:
            modes[operation.body] = "validation"
        for answer in operation.answers.values():
            modes |= {model: "serialization" for model in answer.content.values() if model}
    _, described = models_json_schema(
        list(modes.items()), ref_template=_SCHEMAS + "{model}", schema_generator=_Schemas
    )
    definitions: JsonSchema = described["$defs"]
    return definitions


class _Schemas(GenerateJsonSchema):
    """Schemas without titles and with few unions, because the tools that read them are simple."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - part of the contract
        """Leave out titles that only repeat the names."""
        return False

    def nullable_schema(self, schema: NullableSchema) -> JsonSchema:
        """Write `type: [x, null]` instead of a union."""
        inner = self.generate_inner(schema["schema"])
        if isinstance(inner.get("type"), str):
            return {**inner, "type": [inner["type"], "null"]}
        return super().nullable_schema(schema)

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchema:
        """Leave out a default of null: it only says that the value may be missing."""
        described = super().default_schema(schema)
        if described.get("default", ...) is None:
            del described["default"]
        return described
