"""Runs the whole service on this machine, and says how to use it."""

import shlex
from contextlib import suppress
from pathlib import Path

import orjson

from service import __version__
from service.bootstrap import Running, migrate, running_all_in_one
from service.cli.key_file import key_path
from service.cli.local import local_key, local_settings, own_servers
from service.cli.output import note, print_json, show, this_command
from service.cli.serving import run_loop, serve, start_logs
from service.settings import ClientSettings, Settings

_STORY = "As a user, I want to log in"
_OFFLINE = (
    "offline: rules write the stories, no model is called and nothing is paid",
    "(with ANTHROPIC_API_KEY set, Claude writes them)",
)
_CLAUDE = ("Claude, paid with your ANTHROPIC_API_KEY",)


def run_up(*, as_json: bool) -> None:
    """Start everything, tell how to reach it, and run until asked to stop."""
    settings = local_settings()
    start_logs(settings)
    note("starting ...")
    with suppress(KeyboardInterrupt), own_servers(settings) as ready:
        run_loop(_run(ready, as_json=as_json))
    note("stopped")


async def _run(settings: Settings, *, as_json: bool) -> None:
    await migrate(settings)
    key = await local_key(settings)

    def tell(running: Running) -> None:
        if as_json:
            print_json(_facts(running, settings, key))
        else:
            show(_welcome(running, settings, key))

    await serve(running_all_in_one(settings), settings, on_ready=tell, on_asked=_say_leaving)


def _say_leaving() -> None:
    note("stopping: running jobs may end first; Ctrl-C again leaves at once")


def _facts(running: Running, settings: Settings, key: str) -> dict[str, str | None]:
    return {
        "apiUrl": running.address,
        "metricsUrl": f"{running.metrics_address}/metrics",
        "apiKey": key,
        "keyFile": str(key_path(settings.home).absolute()),
        "model": settings.model,
        "version": __version__,
    }


def _welcome(running: Running, settings: Settings, key: str) -> str:
    address = running.address or ""
    model, *more = _OFFLINE if settings.model == "offline" else _CLAUDE
    return "\n".join(
        [
            f"user-story-service {__version__}",
            "",
            f"  API      {address}",
            f"  Metrics  {running.metrics_address}/metrics",
            f"  Key      {key}",
            f"           (kept in {key_path(settings.home)})",
            f"  Model    {model}",
            *(f"           {line}" for line in more),
            "",
            "Submit a story:",
            "",
            f"  {_curl(address, key)}",
            "",
            "Or submit it and watch:",
            "",
            *_commands(address, settings.home),
            "",
            "Ctrl-C stops it; everything is kept for the next time.",
        ]
    )


def _curl(address: str, key: str) -> str:
    body = orjson.dumps({"story": _STORY}).decode()
    return (
        f"curl -s {address}/api/v1/jobs -H 'Authorization: Bearer {key}'"
        f" -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )


def _commands(address: str, home: Path) -> list[str]:
    given = {"USA_API_URL": (address, "api_url"), "USA_HOME": (str(home), "home")}
    where = "".join(
        f"{variable}={shlex.quote(value)} "
        for variable, (value, field) in given.items()
        if value != str(ClientSettings.model_fields[field].default)
    )
    return [f"  echo {shlex.quote(_STORY)} | {where}{this_command()} submit - --follow"]
