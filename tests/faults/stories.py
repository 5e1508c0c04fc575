"""Stories that no two jobs share, so that the model's own books tell whose call is whose."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from service.domain.job import JsonObject
from tests.fixtures.processes import Cluster

_NUMBER = re.compile(rb"number \d+")


def story(number: int) -> str:
    """The story of a number."""
    return f"As a user, I want to keep number {number}, so that I find it again"


def number_of(body: JsonObject) -> int:
    """The number of the story that a request to the model is about."""
    found = _NUMBER.search(orjson.dumps(body["messages"]))
    if found is None:
        raise AssertionError("a request holds the story that it is about")
    return int(found.group().split()[1])


async def submit_numbers(cluster: Cluster, numbers: Sequence[int], **job: Any) -> list[UUID]:
    """Submit stories by their numbers, all at once."""
    async with cluster.client() as client:
        answers = await asyncio.gather(*(client.submit(story(each), **job) for each in numbers))
    return [UUID(answer["job"]["id"]) for answer in answers]
