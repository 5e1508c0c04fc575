"""One command's conversation with a running service."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from service.cli.display import Display, choose_display
from service.cli.endings import Ending
from service.cli.following import follow_to_end
from service.cli.key_file import credentials
from service.cli.output import note, this_command
from service.client.api_client import ApiClient
from service.client.documents import AcceptedJob
from service.client.operator_client import OperatorClient
from service.client.usage_client import UsageClient
from service.domain.job import JsonObject

Answer = TypeVar("Answer")
Client = TypeVar("Client", bound=ApiClient)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A story and what is asked for it; None leaves the choice to the service."""

    story: str
    iterations: Sequence[str] | None = None
    mode: str | None = None
    options: JsonObject = field(default_factory=dict)

    async def send(self, client: ApiClient) -> AcceptedJob:
        """Submit it and return what the service says."""
        try:
            return await client.submit(
                self.story, iterations=self.iterations, mode=self.mode, options=self.options
            )
        except asyncio.CancelledError:
            note(f"\ninterrupted: `{this_command()} jobs` shows whether the story was accepted")
            raise


def ask(work: Callable[[ApiClient], Awaitable[Answer]]) -> Answer:
    """Make one call."""
    return asyncio.run(_with_client(ApiClient, work, note))


def operate(work: Callable[[OperatorClient], Awaitable[Answer]]) -> Answer:
    """Make calls that may need an admin key."""
    return asyncio.run(_with_client(OperatorClient, work, note))


def ask_usage(work: Callable[[UsageClient], Awaitable[Answer]]) -> Answer:
    """Make calls about usage."""
    return asyncio.run(_with_client(UsageClient, work, note))


def submit_and_follow(submission: Submission, *, as_json: bool) -> tuple[UUID, Ending]:
    """Submit a story and follow it to its end."""
    display = choose_display(as_json=as_json)

    async def work(client: ApiClient) -> tuple[UUID, Ending]:
        accepted = await submission.send(client)
        job_id = UUID(accepted["job"]["id"])
        return job_id, await _follow(client, job_id, display)

    return asyncio.run(_with_client(ApiClient, work, display.note))


def follow(job_id: UUID, *, after: str | None, as_json: bool) -> Ending:
    """Follow a job to its end."""
    display = choose_display(as_json=as_json)

    async def work(client: ApiClient) -> Ending:
        return await _follow(client, job_id, display, after)

    return asyncio.run(_with_client(ApiClient, work, display.note))


async def _with_client(
    kind: type[Client],
    work: Callable[[Client], Awaitable[Answer]],
    on_trouble: Callable[[str], None],
) -> Answer:
    address, key = credentials()
    async with kind(address, key, on_trouble=on_trouble) as client:
        return await work(client)


async def _follow(
    client: ApiClient, job_id: UUID, display: Display, after: str | None = None
) -> Ending:
    try:
        return await follow_to_end(client, job_id, display, after=after)
    except asyncio.CancelledError:
        note(f"\nthe job runs on; go on watching it with: {this_command()} watch {job_id}")
        raise
