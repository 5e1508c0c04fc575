"""The whole command table, and what happens around every command."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from service import __version__
from service.cli import (
    config,
    dead_letters,
    demo,
    doctor,
    jobs,
    keys,
    limits,
    model_stub,
    openapi,
    processes,
    queue,
    usage,
)
from service.cli.exit_codes import ExitCode, help_text
from service.cli.failures import explain
from service.cli.output import note


class Commands(TyperGroup):
    """Ends expected failures with one line and their exit code, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except Exception as error:
            failure = explain(error)
            if failure is None:
                raise
            note(f"usa: {failure}")
            raise typer.Exit(failure.code) from None


app = typer.Typer(
    name="usa",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    # A pretty traceback shows local variables, and those hold keys and stories.
    pretty_exceptions_enable=False,
    epilog=help_text(),
)

_TABLE: tuple[tuple[str, tuple[tuple[str, Callable[..., None]], ...]], ...] = (
    ("Try it", (("demo", demo.demo), ("up", processes.up))),
    (
        "Use a service (USA_API_URL, and USA_API_KEY or .usa/key)",
        (
            ("submit", jobs.submit),
            ("watch", jobs.watch),
            ("result", jobs.result),
            ("jobs", jobs.list_jobs),
            ("cancel", jobs.cancel),
            ("purge", jobs.purge),
            ("usage", usage.usage),
        ),
    ),
    (
        "Run a service (REDIS_URL, DATABASE_URL)",
        (
            ("api", processes.api),
            ("worker", processes.worker),
            ("migrate", processes.migrate),
            ("config", config.config),
            ("doctor", doctor.doctor),
            ("openapi", openapi.openapi),
            ("model-stub", model_stub.model_stub),
        ),
    ),
)

for _panel, _commands in _TABLE:
    for _name, _command in _commands:
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel=_TABLE[1][0])
app.add_typer(queue.app, name="queue", rich_help_panel=_TABLE[1][0])
app.add_typer(keys.app, name="keys", rich_help_panel=_TABLE[-1][0])
app.add_typer(limits.app, name="limits", rich_help_panel=_TABLE[-1][0])


def _show_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _usa(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Improves user stories with Claude, as durable jobs that can be watched live."""
