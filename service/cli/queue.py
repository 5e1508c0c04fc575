"""Commands of those who operate the queue; they take a key with the scope `admin`."""

from typing import Annotated, Any

import typer

from service.cli.options import AsJson
from service.cli.output import note, print_json, show, table, this_command
from service.domain.job import JsonObject

app = typer.Typer(
    help="Look at the queue, pause it and resume it, with a key of scope admin.",
)


_STREAM = ("entries", "lag", "pending", "consumers")


@app.callback(invoke_without_command=True)
def _queue(context: typer.Context, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        show_queue(as_json)


@app.command("show")
def show_queue(as_json: AsJson = False) -> None:
    """Show how many jobs wait and run, what the streams hold, and whether the queue is paused."""
    from service.cli import remote

    queue = remote.operate(lambda client: client.queue())
    if as_json:
        print_json(queue)
        return
    show("\n\n".join([_pause(queue["pause"]), table(_jobs(queue["jobs"]))]))
    if queue["streams"] is None:
        note("Redis does not answer: what its streams hold is not known")
    else:
        heading = ("STREAM", "ENTRIES", "LAG", "PENDING", "CONSUMERS")
        show("\n" + table([heading, *map(_stream, queue["streams"])]))


@app.command("pause")
def pause(
    reason: Annotated[str | None, typer.Option(help="Shown to whoever looks at the queue.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let no worker start another job; running ones go on, and new ones are accepted."""
    from service.cli import remote

    state = remote.operate(lambda client: client.pause(reason))
    if as_json:
        print_json(state)
        return
    show(_pause(state))
    note(f"go on with: {this_command()} queue resume")


@app.command("resume")
def resume(as_json: AsJson = False) -> None:
    """Let workers start jobs again."""
    from service.cli import remote

    state = remote.operate(lambda client: client.resume())
    print_json(state) if as_json else show(_pause(state))


def _pause(state: JsonObject) -> str:
    if not state["paused"]:
        return "the queue is not paused"
    since = state["since"][:19].replace("T", " ")
    reason = f": {state['reason']}" if state["reason"] else ""
    return f"the queue is paused since {since} UTC by {state['by']}{reason}"


def _jobs(jobs: JsonObject) -> list[tuple[str, str]]:
    ended, oldest = jobs["endedLastHour"], jobs["oldestQueuedSeconds"]
    return [
        ("JOBS", ""),
        ("queued", _count(jobs["queued"])),
        ("  may not start yet", _count(jobs["waiting"])),
        ("  without an entry", _count(jobs["withoutEntry"])),
        ("  oldest, seconds", "none" if oldest is None else _count(round(oldest))),
        ("processing", _count(jobs["processing"])),
        ("failed", _count(jobs["failed"])),
        ("completed in the last hour", _count(ended["completed"])),
        ("failed in the last hour", _count(ended["failed"])),
        ("cancelled in the last hour", _count(ended["cancelled"])),
    ]


def _stream(stream: JsonObject) -> tuple[str, ...]:
    return (stream["stream"], *(_count(stream[key]) for key in _STREAM))


def _count(count: Any) -> str:
    return "unknown" if count is None else f"{count:,}"
