"""The settings that a checkup goes by, also where some of them are wrong."""

from typing import Any

from pydantic import SecretStr, ValidationError

from service.cli.local import localized
from service.cli.variables import problems_in, variables_of
from service.domain.checkup import Finding
from service.embedded import find_running_servers
from service.relations import RELATIONS
from service.settings import Settings


def read_settings() -> tuple[Settings, Finding]:
    """Read what can be read, with the servers of the `usa up` of this folder if no others are set.

    What is wrong has its default and is told, so that it does not hide the rest.
    """
    try:
        settings, finding = Settings(), Finding.ok("settings", "all are valid")
    except ValidationError as error:
        settings = Settings(**_defaults_for(error))
        message = "; ".join(problems_in(error))
        finding = Finding.failed("settings", message, "`usa config` lists what is allowed")
    return _found(settings), finding


def _defaults_for(error: ValidationError) -> dict[str, Any]:
    wrong = {str(each["loc"][0]) for each in error.errors(include_input=False) if each["loc"]}
    fields = {
        name
        for name in Settings.model_fields
        if wrong.intersection({name, *variables_of(Settings, name)})
    }
    # A default may contradict what is set beside it.
    related = {name for each in RELATIONS for name in (each.bounded, each.bound)}
    return {name: Settings.model_fields[name].default for name in fields | related}


def _found(settings: Settings) -> Settings:
    if settings.redis_url is not None and settings.database_url is not None:
        return settings
    running = find_running_servers(settings.home)
    found: dict[str, Any] = {}
    if settings.redis_url is None and running.redis_url is not None:
        found["redis_url"] = SecretStr(running.redis_url)
    if settings.database_url is None and running.database_url is not None:
        found["database_url"] = SecretStr(running.database_url)
    return localized(settings, **found) if found else settings
