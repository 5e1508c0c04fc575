"""Runs the stand-in for the Claude API."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.failures import cannot_listen
from service.cli.options import AsJson
from service.cli.output import print_json, show, this_command
from service.domain.upstream import KINDS, Rates

if TYPE_CHECKING:
    from service.agent.model_stub.faults import FaultPlan


def model_stub(  # noqa: PLR0913, PLR0917 - one for each option
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes any free one.")] = 0,
    pause: Annotated[
        float, typer.Option(min=0, max=60, help="Seconds between pieces of text.")
    ] = 0.02,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[:STATUS]=RATE",
            help="What goes wrong in which part of the calls, as in reject:529=0.1; repeatable.",
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=RATE",
            help="Most requests, input or output tokens per minute, as in requests=50; repeatable.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Makes the faults repeatable.")] = 0,
    only_key: Annotated[str | None, typer.Option(help="The only key to accept; else any.")] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="File to append every call to, one JSON line each.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a server that speaks the Claude API without a model, for tests and trials."""
    from service.agent.model_stub import ModelStub, serve
    from service.cli.serving import run_loop
    from service.cli.signals import leaving_on_signals

    stub = ModelStub(
        plan=_plan(fault or [], seed),
        pause=pause,
        api_key=only_key,
        ledger_path=ledger,
        limits=_limits(limit or []),
    )

    def tell(address: str) -> None:
        if as_json:
            print_json({"address": address})
            return
        key = only_key or "any"
        show(f"listening on {address}; Ctrl-C stops it. A service that uses it:\n")
        show(f"  ANTHROPIC_BASE_URL={address} ANTHROPIC_API_KEY={key} {this_command()} up")

    async def run() -> None:
        with leaving_on_signals():
            await serve(host, port, stub, tell)

    try:
        run_loop(run())
    except OSError as error:
        raise cannot_listen(error, {port: "--port"}) from error


def _limits(texts: list[str]) -> Rates:
    limits: dict[str, float] = {}
    for text in texts:
        kind, _, rate = text.partition("=")
        if kind not in KINDS or not rate.isascii() or not rate.isdigit() or not int(rate):
            message = f"{text!r} is not one of {', '.join(f'{kind}=RATE' for kind in KINDS)}"
            raise typer.BadParameter(message, param_hint="--limit")
        limits[kind] = int(rate)
    return Rates(**limits)


def _plan(faults: list[str], seed: int) -> "FaultPlan | None":
    from service.agent.model_stub import Fault, FaultKind, random_faults

    if not faults:
        return None
    rates = {}
    try:
        for text in faults:
            what, _, rate = text.partition("=")
            kind, _, status = what.partition(":")
            rates[Fault(kind=FaultKind(kind), status=int(status or 500))] = float(rate)
        return random_faults(rates, seed)
    except ValueError as error:
        kinds = ", ".join(FaultKind)
        raise typer.BadParameter(f"{error}; kinds are {kinds}", param_hint="--fault") from None
