"""The processes of a service, and the migrations they need."""

from typing import Annotated

import typer

from service.cli.exit_codes import ExitCode
from service.cli.options import AsJson
from service.cli.output import note, print_json


def up(as_json: AsJson = False) -> None:
    """Run the whole service on this machine until Ctrl-C.

    Starts a Valkey and a Postgres of its own, with their data in USA_HOME, where REDIS_URL or
    DATABASE_URL are not set. Calls no model unless ANTHROPIC_API_KEY is set.
    """
    from service.cli.up import run_up

    run_up(as_json=as_json)


def api() -> None:
    """Run the API alone, until SIGTERM."""
    from service.bootstrap import running_api
    from service.cli.serving import run_process

    run_process(running_api)


def worker() -> None:
    """Run a worker alone, until SIGTERM; its jobs may then go on for USA_SHUTDOWN_GRACE."""
    from service.bootstrap import running_worker
    from service.cli.serving import run_process

    run_process(running_worker)


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 10 if something is missing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema up to date."""
    from service.bootstrap import migrate as apply
    from service.bootstrap import pending_migrations
    from service.cli.database import on_database

    names = on_database(pending_migrations if check else apply)
    if as_json:
        print_json({"pending" if check else "applied": names})
    elif names:
        print("\n".join(names))
    else:
        note("the schema is up to date")
    if check and names:
        raise typer.Exit(ExitCode.SCHEMA)
