"""Runs what a command does to the database itself, without a service."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import SecretStr

from service.cli.exit_codes import ExitCode
from service.cli.failures import Failure
from service.cli.serving import start_logs
from service.embedded import find_running_servers
from service.settings import Settings

Rest = ParamSpec("Rest")
Answer = TypeVar("Answer")


def on_database(
    work: Callable[Concatenate[Settings, Rest], Coroutine[Any, Any, Answer]],
    *arguments: Rest.args,
    **options: Rest.kwargs,
) -> Answer:
    """Run `work` on the database of DATABASE_URL, or on that of the `usa up` of this folder."""
    settings = Settings()
    # What is put on record goes where logs go, and not into the command's result.
    start_logs(settings)
    if settings.database_url is None:
        found = find_running_servers(settings.home).database_url
        if found is None:
            raise Failure(
                "no database: set DATABASE_URL, or run this where `usa up` runs", ExitCode.SETTINGS
            )
        settings = settings.model_copy(update={"database_url": SecretStr(found)})
    return asyncio.run(work(settings, *arguments, **options))
