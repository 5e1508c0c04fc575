"""Options and arguments that several commands share."""

from typing import Annotated, TypeAlias
from uuid import UUID

import typer

from service.domain.events import EventId
from service.domain.iterations import PRODUCT_TYPES


def _check_event_id(text: str | None) -> str | None:
    if text is not None and EventId.parse(text) is None:
        raise typer.BadParameter("an event id looks like 1-7")
    return text


def _check_product_type(text: str | None) -> str | None:
    if text is not None and text not in PRODUCT_TYPES:
        raise typer.BadParameter(f"it is one of {', '.join(PRODUCT_TYPES)}")
    return text


AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Write JSON for machines: one document, or a line per event.")
]
JobId: TypeAlias = Annotated[UUID, typer.Argument(metavar="ID", help="The id of a job.")]
After: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="EVENT", callback=_check_event_id, help="Show only what came after this event id."
    ),
]
Workflow: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        callback=_check_product_type,
        help=f"Run all iterations for a type of product: {', '.join(PRODUCT_TYPES)}.",
    ),
]
