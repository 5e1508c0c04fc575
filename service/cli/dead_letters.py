"""Commands for failed jobs: everybody's with an admin key, one's own without."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from service.cli.exit_codes import ExitCode
from service.cli.failures import Failure
from service.cli.options import AsJson
from service.cli.output import note, print_json, show, table, this_command
from service.domain.job import JsonObject

if TYPE_CHECKING:
    from service.client.operator_client import OperatorClient

app = typer.Typer(
    help="List failed jobs, and queue them again: everybody's with a key of scope admin.",
    no_args_is_help=True,
)

_MOST = 100
_SHOWN_OF_MESSAGE = 60
_FORBIDDEN = "FORBIDDEN"
_REFUSALS = frozenset({404, 409})


@app.command("list")
def list_dead_letters(
    code: Annotated[str | None, typer.Option(help="Only jobs that failed with this code.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=_MOST, help="How many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """List everybody's failed jobs, newest first: whose they are and why they failed."""
    from service.cli import remote

    page = remote.operate(
        lambda client: _as_operator(client.list_dead_letters(code=code, limit=limit, cursor=cursor))
    )
    if page is None:
        raise _not_an_operator()
    if as_json:
        print_json(page)
        return
    if not page["deadLetters"]:
        note("no failed jobs")
        return
    heading = ("ID", "FAILED", "CODE", "TENANT", "USER", "MESSAGE")
    show(table([heading, *map(_row, page["deadLetters"])]))
    if page.get("nextCursor"):
        only = f" --code {code}" if code else ""
        older = f"dead-letters list{only} --cursor {page['nextCursor']}"
        note(f"older ones: {this_command()} {older}")


@app.command("redrive")
def redrive(
    job_ids: Annotated[
        list[UUID] | None, typer.Argument(metavar="ID", help="Ids of failed jobs.")
    ] = None,
    code: Annotated[
        str | None, typer.Option(help="Jobs that failed with this code, the first ones first.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=_MOST, help="How many of that code, at most.")
    ] = _MOST,
    as_json: AsJson = False,
) -> None:
    """Queue failed jobs again; what they have finished is kept and not paid again.

    Without an admin key: jobs of your own, by their ids.
    """
    from service.cli import remote

    if bool(job_ids) == (code is not None):
        raise typer.BadParameter("give either ids of jobs or --code")
    report: JsonObject | None
    if code is None:
        report = remote.operate(lambda client: _redrive(client, job_ids or []))
    else:
        report = remote.operate(lambda client: _as_operator(client.redrive_code(code, limit)))
    if report is None:
        raise _not_an_operator()
    if as_json:
        print_json(report)
    else:
        _tell(report)
    if report["refused"]:
        raise typer.Exit(ExitCode.REFUSED)


async def _as_operator(asking: Awaitable[JsonObject]) -> JsonObject | None:
    """Return what the service says; None if the key may not operate the queue."""
    from service.client.errors import ApiProblem

    try:
        return await asking
    except ApiProblem as problem:
        if problem.code != _FORBIDDEN:
            raise
        return None


def _not_an_operator() -> Failure:
    command = this_command()
    return Failure(
        "everybody's failed jobs take a key with the scope admin: make one with"
        f" `{command} keys create --scope admin ...`; yours: `{command} jobs --status failed`",
        ExitCode.REFUSED,
    )


async def _redrive(client: "OperatorClient", job_ids: list[UUID]) -> JsonObject:
    report = await _as_operator(client.redrive_dead_letters(job_ids))
    return await _redrive_own(client, job_ids) if report is None else report


async def _redrive_own(client: "OperatorClient", job_ids: list[UUID]) -> JsonObject:
    """Redrive one after the other as their owner; the report is that of an operator."""
    from service.client.errors import ApiProblem

    report: JsonObject = {"redriven": [], "refused": []}
    for job_id in job_ids:
        try:
            await client.redrive(job_id)
            report["redriven"].append(str(job_id))
        except ApiProblem as problem:
            if problem.status not in _REFUSALS:
                raise
            refusal = {"id": str(job_id), "code": problem.code, "detail": problem.detail}
            report["refused"].append(refusal)
    return report


def _tell(report: JsonObject) -> None:
    for job_id in report["redriven"]:
        show(f"{job_id} is queued again")
    for refusal in report["refused"]:
        note(f"{refusal['id']} stays: {refusal['detail']} ({refusal['code']})")
    if not report["redriven"] and not report["refused"]:
        note("no job failed with this code")


def _row(letter: JsonObject) -> tuple[str, ...]:
    message = letter["error"]["message"]
    if len(message) > _SHOWN_OF_MESSAGE:
        message = f"{message[: _SHOWN_OF_MESSAGE - 1]}…"
    failed = letter["failedAt"][:19].replace("T", " ")
    code = letter["error"]["code"]
    return letter["id"], failed, code, letter["tenantId"], letter["userId"], message
