"""Shows the whole service at work, like any user would see it, and removes it again."""

from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import typer

from service.bootstrap import migrate, running_all_in_one
from service.cli.display import Display, choose_display
from service.cli.endings import Ending
from service.cli.exit_codes import ExitCode
from service.cli.following import follow_to_end, report
from service.cli.local import local_settings, new_local_key, own_servers
from service.cli.output import note
from service.cli.serving import listening, run_loop, start_logs
from service.cli.signals import interrupt_once_on_signals, leaving_on_signals
from service.client.api_client import ApiClient
from service.settings import Settings

STORY = """\
Title: Save a delivery address

As a returning customer, I want to save my delivery address so that I do not have to type it \
again with every order.

Acceptance criteria:
- The saved address is offered at checkout
- I can change or delete it in my account"""
_ITERATIONS = ("user-roles", "validation", "accessibility", "security")
# Nothing of it is kept, so that nothing is worth waiting for at its end.
_HURRY = {"shutdown_grace": 1.0, "block": 0.2}
# Whatever DATABASE_URL means to somebody's shell, a demonstration must not write there.
_OWN_SERVERS = {"redis_url": None, "database_url": None}


def run_demo(workflow: str | None, pace: float | None, *, as_json: bool) -> None:
    """Run the demonstration and exit as the job ended; nothing of it stays."""
    interrupt_once_on_signals()
    with TemporaryDirectory(prefix="usa-demo-") as folder:
        chosen = {} if pace is None else {"offline_pace": pace}
        settings = local_settings(
            home=Path(folder), port=0, log_level="ERROR", **_OWN_SERVERS, **_HURRY, **chosen
        )
        start_logs(settings)
        _introduce(settings)
        with own_servers(settings, durable=False) as ready:
            ended = run_loop(_demonstrate(ready, workflow, choose_display(as_json=as_json)))
    if ended is None:
        note("interrupted; everything is stopped and removed")
        raise typer.Exit(ExitCode.INTERRUPTED)
    job_id, ending = ended
    if not as_json:
        report(ending, job_id)
    raise typer.Exit(ending.code)


async def _demonstrate(
    settings: Settings, workflow: str | None, display: Display
) -> tuple[UUID, Ending] | None:
    """Return how the job ended; None if a signal came first."""
    ended = None
    with leaving_on_signals():
        await migrate(settings)
        key = await new_local_key(settings)
        async with (
            listening(running_all_in_one(settings), settings) as running,
            ApiClient(running.address or "", key, on_trouble=display.note) as client,
        ):
            job_id = await _submit(client, workflow)
            ended = job_id, await follow_to_end(client, job_id, display)
    return ended


async def _submit(client: ApiClient, workflow: str | None) -> UUID:
    if workflow is None:
        accepted = await client.submit(STORY, iterations=_ITERATIONS)
    else:
        accepted = await client.submit(STORY, mode="workflow", options={"productType": workflow})
    return UUID(accepted["job"]["id"])


def _introduce(settings: Settings) -> None:
    if settings.model == "offline":
        note("offline: rules write this story, no model is called and nothing is paid")
    else:
        note("Claude writes this story, paid with your ANTHROPIC_API_KEY")
    note(f"\n{STORY}\n\nstarting Valkey, Postgres and the service ...\n")
