"""Follows a job to its end and tells how it ended."""

from contextlib import aclosing
from uuid import UUID

from service.cli.display import Display
from service.cli.endings import Ending
from service.cli.output import note, print_json, show
from service.client.api_client import ApiClient
from service.domain.events import EventType


async def follow_to_end(
    client: ApiClient, job_id: UUID, display: Display, *, after: str | None = None
) -> Ending:
    """Show every event after `after` and return the job's ending."""
    with display:
        async with aclosing(client.follow(job_id, after)) as events:
            async for event in events:
                display.show(event)
                if event.is_terminal:
                    return Ending.of_event(EventType(event.type), event.data)
    # The one event left was the one that the reader had seen already.
    ended = Ending.of_job(await client.get(job_id))
    if ended is None:
        raise AssertionError(f"the events of {job_id} ended before the job did")
    return ended


def report(ending: Ending, job_id: UUID) -> None:
    """Print the result, and apart from it how the job ended."""
    if ending.markdown:
        show(ending.markdown.rstrip("\n"))
    elif ending.result:
        print_json(ending.result)
    note(f"\n{ending.summary(job_id)}")
