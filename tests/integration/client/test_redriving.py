"""Redriving through the client: what it asks for, and how often."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import orjson
import pytest

from service.client.errors import ApiProblem, ClientFailure, Unreachable
from service.client.operator_client import OperatorClient
from tests.fixtures.waiting import eventually
from tests.integration.client.conftest import KEY
from tests.integration.client.misbehaving import (
    Behaviour,
    MisbehavingServer,
    drops,
    refuses,
    says,
)

JOB = UUID("01a21088-29e1-77e7-bdbc-91ca6407d65d")
AWAY = refuses(503, "UNAVAILABLE", Retry_After="0")
DEAD_LETTERS = "/api/v1/admin/dead-letters"


@pytest.fixture
async def operator(server: MisbehavingServer) -> AsyncIterator[OperatorClient]:
    """An operator who loses patience soon."""
    async with OperatorClient(server.address, KEY, patience=1.0) as client:
        yield client


async def test_one_job_is_redriven(server: MisbehavingServer, operator: OperatorClient) -> None:
    server.plays(says(202, {"job": {"id": str(JOB)}}))

    assert (await operator.redrive(JOB))["job"]["id"] == str(JOB)

    [seen] = server.seen
    assert (seen.method, seen.path) == ("POST", f"/api/v1/jobs/{JOB}/redrive")
    assert seen.headers["Authorization"] == f"Bearer {KEY}"


async def test_listing_asks_for_what_was_given(
    server: MisbehavingServer, operator: OperatorClient
) -> None:
    server.plays(says(200, {"deadLetters": []}))
    await operator.list_dead_letters()
    await operator.list_dead_letters(code="WORKER_LOST", limit=5, cursor="a_b-c")
    assert [seen.path for seen in server.seen] == [
        f"{DEAD_LETTERS}?limit=20",
        f"{DEAD_LETTERS}?code=WORKER_LOST&limit=5&cursor=a_b-c",
    ]


async def test_many_jobs_are_redriven_by_their_ids_or_by_their_code(
    server: MisbehavingServer, operator: OperatorClient
) -> None:
    report = {"redriven": [str(JOB)], "refused": []}
    server.plays(says(202, report))

    assert await operator.redrive_dead_letters([JOB]) == report
    assert await operator.redrive_code("WORKER_LOST", 3) == report

    assert {(seen.method, seen.path) for seen in server.seen} == {
        ("POST", f"{DEAD_LETTERS}/redrive")
    }
    assert [orjson.loads(seen.body) for seen in server.seen] == [
        {"ids": [str(JOB)]},
        {"code": "WORKER_LOST", "limit": 3},
    ]
    assert {seen.headers["Content-Type"] for seen in server.seen} == {"application/json"}


@pytest.mark.parametrize("trouble", [drops, AWAY], ids=["dropped", "503"])
async def test_named_jobs_are_asked_for_until_there_is_an_answer(
    server: MisbehavingServer, operator: OperatorClient, trouble: Behaviour
) -> None:
    server.plays(trouble, says(202, {"redriven": []}))

    await operator.redrive_dead_letters([JOB])

    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("trouble", "failure"), [(drops, Unreachable), (AWAY, ApiProblem)], ids=["dropped", "503"]
)
async def test_as_many_jobs_of_a_code_are_never_asked_for_twice(
    server: MisbehavingServer,
    operator: OperatorClient,
    trouble: Behaviour,
    failure: type[ClientFailure],
) -> None:
    server.plays(trouble, says(202, {"redriven": []}))

    with pytest.raises(failure):
        await operator.redrive_code("WORKER_LOST", 3)

    assert len(server.seen) == 1


async def test_a_request_that_cannot_have_arrived_is_made_again(
    server: MisbehavingServer, troubles: list[str]
) -> None:
    server.plays(says(200, {"id": "x"}), says(202, {"redriven": []}))
    async with OperatorClient(server.address, KEY, on_trouble=troubles.append) as operator:
        await operator.get(JOB)
        await server.stop()
        asking = asyncio.create_task(operator.redrive_code("WORKER_LOST", 3))
        await eventually(lambda: troubles, what="nobody listens")

        await server.start()

        assert await asking == {"redriven": []}
    assert len(server.seen) == 2
