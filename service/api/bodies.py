"""JSON bodies, read strictly: what would be lost or cannot be stored is refused, never mended."""

import json
import re
from asyncio import timeout
from collections import Counter
from collections.abc import Iterable
from math import isfinite
from typing import Any, NoReturn, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ValidationError

from service.api.problems import Problem
from service.domain.errors import FieldError, InvalidInput, json_path
from service.domain.job import JsonObject

Model = TypeVar("Model", bound=BaseModel)

_SECONDS_FOR_BODY = 30.0
_DEEPEST = 20
_ECHO = 80
# Postgres' text holds neither U+0000 nor half of a surrogate pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


async def read_object(request: web.Request) -> JsonObject:
    """Read the body as one JSON object; raises `InvalidInput`, or 408, 413 or 415."""
    # Without any content type, a JSON body is what was meant.
    if request.headers.get("Content-Type") and request.content_type != "application/json":
        detail = "send the body as `Content-Type: application/json`"
        raise Problem(status=415, code="UNSUPPORTED_MEDIA_TYPE", detail=detail)
    return parse_object(await _read(request))


async def _read(request: web.Request) -> bytes:
    try:
        async with timeout(_SECONDS_FOR_BODY):
            return await request.read()
    except TimeoutError:
        detail = f"the body did not arrive within {_SECONDS_FOR_BODY:g} seconds"
        raise Problem(status=408, code="REQUEST_TIMEOUT", detail=detail) from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise InvalidInput("the body is not encoded the way its headers say") from None


def parse_object(body: bytes) -> JsonObject:
    """Parse one JSON object with unique names, finite numbers and storable text."""
    try:
        document = json.loads(
            body.decode("utf-8-sig"),
            object_pairs_hook=_unique,
            parse_float=_finite,
            parse_constant=_not_finite,
        )
    except UnicodeDecodeError:
        raise InvalidInput("the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidInput(f"the body is not valid JSON: {error.msg} ({place})") from None
    except RecursionError:
        raise InvalidInput("the body is nested too deeply") from None
    except ValueError:
        raise InvalidInput("the body has a number with too many digits") from None
    if not isinstance(document, dict):
        raise InvalidInput("the body is not a JSON object")
    _check(document, ())
    return document


def _unique(members: list[tuple[str, Any]]) -> JsonObject:
    document = dict(members)
    if len(document) < len(members):
        [(name, _)] = Counter(name for name, _ in members).most_common(1)
        raise InvalidInput(f"the name {name[:_ECHO]!r} appears twice in one object")
    return document


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise InvalidInput("the body has a number that is too large")
    return number


def _not_finite(constant: str) -> NoReturn:
    raise InvalidInput(f"the body is not valid JSON: {constant} is not a number in JSON")


def _check(container: JsonObject | list[Any], location: tuple[int | str, ...]) -> None:
    if len(location) > _DEEPEST:
        raise InvalidInput("the body is nested too deeply")
    members: Iterable[tuple[int | str, Any]]
    members = container.items() if isinstance(container, dict) else enumerate(container)
    for key, member in members:
        if isinstance(key, str):
            _check_text(key, location)
        if isinstance(member, str):
            _check_text(member, (*location, key))
        elif isinstance(member, dict | list):
            _check(member, (*location, key))


def _check_text(text: str, location: tuple[int | str, ...]) -> None:
    found = _UNSTORABLE.search(text)
    if found:
        message = f"the text holds U+{ord(found[0]):04X}, which cannot be stored"
        raise InvalidInput(message, errors=[FieldError(json_path(location), message)])


def validated(model: type[Model], document: JsonObject, what: str) -> Model:
    """Check the form of a document, a `what`; raises `InvalidInput` naming each bad field."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        errors = [FieldError(json_path(each["loc"]), each["msg"]) for each in found]
        raise InvalidInput(f"the body is not a valid {what}", errors=errors) from None
