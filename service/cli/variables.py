"""The settings as environment variables: their names, limits, values and what is wrong."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import AliasChoices, BaseModel, SecretStr, ValidationError

from service.relations import RELATIONS
from service.settings import ClientSettings, Settings

SETTINGS: Mapping[str, type[Settings | ClientSettings]] = {
    kind.__name__: kind for kind in (Settings, ClientSettings)
}


def variables_of(kind: type[BaseModel], name: str) -> tuple[str, ...]:
    """Return the variables that set a field, the one that wins first."""
    alias = kind.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (f"{kind.model_config.get('env_prefix', '')}{name}".upper(),)


def problems_in(error: ValidationError) -> list[str]:
    """Say which variables are wrong and why, without any value: one might be a secret.

    Raises `KeyError` for an error of anything but settings.
    """
    kind = SETTINGS[error.title]
    return [_problem(kind, each["loc"], each["msg"]) for each in error.errors(include_input=False)]


def describe_fields() -> Iterator[dict[str, Any]]:
    """Describe every setting once: `{variables, default, allowed, meaning}`."""
    for kind, name in _fields():
        yield _describe(kind, name)


def describe_settings() -> list[dict[str, Any]]:
    """Describe every setting and add what it is here: `{value, isSet}`; secrets are hidden."""
    read = {kind: kind() for kind in SETTINGS.values()}
    return [
        {
            **_describe(kind, name),
            "value": _shown(getattr(read[kind], name)),
            "isSet": name in read[kind].model_fields_set,
        }
        for kind, name in _fields()
    ]


def describe_relations() -> list[str]:
    """Say what must hold between settings, and why."""
    return [str(relation) for relation in RELATIONS]


def _fields() -> Iterator[tuple[type[Settings | ClientSettings], str]]:
    for kind in SETTINGS.values():
        for name in kind.model_fields:
            if kind is Settings or name not in Settings.model_fields:
                yield kind, name


def _describe(kind: type[BaseModel], name: str) -> dict[str, Any]:
    field = kind.model_fields[name]
    return {
        "variables": list(variables_of(kind, name)),
        "default": _shown(field.default),
        "allowed": _allowed(kind.model_json_schema(by_alias=False)["properties"][name]),
        "meaning": field.description,
    }


def _allowed(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if schema.get("type") == "boolean":
        return "true, false"
    if "exclusiveMinimum" in schema:
        return f"above {schema['exclusiveMinimum']:g}"
    if "minimum" in schema:
        return f"{schema['minimum']:g} to {schema['maximum']:g}"
    return ""


def _shown(value: Any) -> Any:
    match value:
        case SecretStr():
            return "(hidden)"
        case None | bool() | int() | float() | str():
            return value
        case tuple():
            return list(value)
        case _:
            return str(value)


def _problem(
    kind: type[Settings | ClientSettings], location: tuple[int | str, ...], message: str
) -> str:
    told = message.removeprefix("Value error, ")
    if not location:
        return told
    place = str(location[0])
    for name in kind.model_fields:
        variables = variables_of(kind, name)
        if place in {name, *variables}:
            return f"{' or '.join(variables)}: {told[:1].lower()}{told[1:]}"
    return f"{place}: {told}"
