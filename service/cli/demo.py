"""The demonstration: one story, from nothing to its result."""

from typing import Annotated

import typer

from service.cli.options import AsJson, Workflow


def demo(
    workflow: Workflow = None,
    pace: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="How slowly the offline model writes; 0 is at once."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Improve a sample story on a service of its own, and leave nothing behind.

    Calls no model unless ANTHROPIC_API_KEY is set.
    """
    from service.cli.demonstration import run_demo

    run_demo(workflow, pace, as_json=as_json)
