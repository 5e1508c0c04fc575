"""Every fault of the model, one by one: what users, the ledger and the model's side see of it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr

from service.agent.model_stub import Fault, FaultKind, ModelStub, StubCall
from service.client.api_client import ApiClient
from service.client.event_stream import StreamEvent
from service.domain.job import JsonObject
from service.domain.usage import Usage
from service.streams.connection import Client
from tests.faults.fault_table import PATH, document
from tests.faults.model_faults import ALL, Booked, ModelFault
from tests.fixtures.database import Observer
from tests.fixtures.deployment import Deployment
from tests.fixtures.invariants import faults_of_stories
from tests.fixtures.waiting import eventually

# What the job's waits are told apart by: seconds from minutes, not from each other.
SLACK = timedelta(seconds=60)

_FAILED_LAST = "SELECT max(closed_at) FROM usage_records WHERE job_id = $1 AND ending = 'failed'"
_START_NOW = """
UPDATE jobs SET available_at = clock_timestamp(), relay_after = clock_timestamp()
WHERE id = $1 AND status = 'queued' AND error_count = $2
"""


class Look:
    """What the database says of one job, as it is run."""

    def __init__(self, observer: Observer, redis: Client) -> None:
        self._connection = observer.connection
        self._redis = redis

    async def rows(self, sql: str, *parameters: Any) -> list[asyncpg.Record]:
        """Return the rows of a query."""
        return list(await self._connection.fetch(sql, *parameters))

    async def ledger(self, job_id: UUID) -> list[asyncpg.Record]:
        """Return the job's calls, in their order."""
        return await self.rows(
            "SELECT * FROM usage_records WHERE job_id = $1 ORDER BY attempt, call", job_id
        )

    async def waits(self, job_id: UUID) -> list[timedelta]:
        """Return how long the job was to wait each time, without waiting for it, until its end."""
        waits: list[timedelta] = []

        async def has_ended() -> bool:
            for key in await self._redis.keys("usa:budget:*}"):
                await self._redis.hdel(key, "pause")
            (job,) = await self.rows(
                "SELECT status, error_count, available_at FROM jobs WHERE id = $1", job_id
            )
            if job["status"] == "queued" and job["error_count"] > len(waits):
                ((failed,),) = await self.rows(_FAILED_LAST, job_id)
                waits.append(job["available_at"] - failed)
                await self._connection.execute(_START_NOW, job_id, job["error_count"])
            return job["status"] in {"completed", "failed"}

        await eventually(has_ended, within=40.0, what="the job ends")
        return waits


@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.name)
async def test_a_fault_of_the_model_comes_to_what_the_table_says(
    deployment: Deployment, model_stub: ModelStub, observer: Observer, fault: ModelFault
) -> None:
    look = Look(observer, deployment.redis)
    model_stub.queue_faults(*fault.faults)
    await deployment.start_api(model="anthropic")
    await deployment.start_worker(**_worker(model_stub, fault))

    job_id = await deployment.submit(iterations=["validation"])
    waits = await look.waits(job_id)

    job = await deployment.job(job_id)
    rows, told = await look.ledger(job_id), await _told(deployment, job_id)
    _check_waits(fault, waits, told)
    _check_end(fault, job)
    await eventually(lambda: all(call.ended for call in model_stub.calls), what="all calls end")
    assert len(model_stub.calls) == (len(fault.calls) if fault.reaches else 0)
    assert [(row["step"], row["ending"]) for row in rows] == [
        (f"validation/{call.step}", call.ending) for call in fault.calls
    ]
    calls: Sequence[StubCall | None] = model_stub.calls if fault.reaches else [None] * len(rows)
    assert [_booked(row, call) for row, call in zip(rows, calls, strict=True)] == [
        call.booked for call in fault.calls
    ]
    # The job, its owner's day and its events tell the same as the ledger.
    assert job["tokenUsage"] == _used(rows).as_json()
    assert await faults_of_stories(look, {job_id: told}) == []


def _worker(stub: ModelStub, fault: ModelFault) -> dict[str, Any]:
    address = stub.address.removeprefix("http://")
    settings = {
        name: value.format(address=address) if isinstance(value, str) else value
        for name, value in fault.settings.items()
    }
    return {
        "model": "anthropic",
        "anthropic_api_key": SecretStr("sk-ant-of-the-test"),
        "anthropic_base_url": stub.address,
        **settings,
    }


async def _told(deployment: Deployment, job_id: UUID) -> list[StreamEvent]:
    async with ApiClient(deployment.url, deployment.key) as client:
        return [event async for event in client.follow(job_id)]


def _check_waits(
    fault: ModelFault, waits: Sequence[timedelta], told: Sequence[StreamEvent]
) -> None:
    assert len(waits) == len(fault.waits)
    for wait, expected in zip(waits, fault.waits, strict=True):
        assert timedelta(seconds=expected.least) <= wait
        assert wait < timedelta(seconds=expected.most) + SLACK
    retrying = [event.data for event in told if event.type == "retrying"]
    assert [(each["reason"], each["code"]) for each in retrying] == [
        ("error", "MODEL_UNAVAILABLE")
    ] * len(fault.waits)
    assert all(datetime.fromisoformat(each["availableAt"]) for each in retrying)


def _check_end(fault: ModelFault, job: JsonObject) -> None:
    assert job["status"] == ("failed" if fault.error else "completed")
    if fault.error is not None:
        assert job["error"]["code"] == fault.error
        assert fault.says in job["error"]["message"]
        return
    reviews = [
        reason for each in job["result"].get("needsReview", ()) for reason in each["reasons"]
    ]
    assert reviews == ([fault.review] if fault.review else [])
    assert job["result"]["iterations"][0]["applied"] != []


def _booked(row: asyncpg.Record, call: StubCall | None) -> Booked | None:
    """Say how the ledger's row compares with the model's own books; None if it is wrong."""
    used, billed = _used([row]), call.billed if call else Usage()
    if used == Usage():
        return Booked.NOTHING if billed == Usage() else None
    if not row["estimated"]:
        return Booked.EXACT if used == billed else None
    if row["output_tokens"] > 0 and _read(used) == _read(billed):
        return Booked.READ
    return Booked.GUESSED


def _read(usage: Usage) -> tuple[int, int, int]:
    return usage.input, usage.cache_read, usage.cache_write


def _used(rows: Sequence[asyncpg.Record]) -> Usage:
    return Usage(
        sum(row["input_tokens"] for row in rows),
        sum(row["output_tokens"] for row in rows),
        sum(row["cache_read_tokens"] for row in rows),
        sum(row["cache_write_tokens"] for row in rows),
    )


async def test_what_was_finished_before_a_refusal_stays_readable(
    deployment: Deployment, model_stub: ModelStub, observer: Observer
) -> None:
    refusal = ModelFault(name="", faults=[None, None, Fault(kind=FaultKind.REFUSE)], calls=[])
    model_stub.queue_faults(*refusal.faults)
    await deployment.start_api(model="anthropic")
    await deployment.start_worker(**_worker(model_stub, refusal))

    job_id = await deployment.submit(iterations=["user-roles", "validation"])
    job = await deployment.ended(job_id)

    assert (job["status"], job["error"]["code"]) == ("failed", "MODEL_REFUSED")
    assert job["result"] is None
    (shown,) = job["progress"]["completed"]
    (told,) = [e for e in await _told(deployment, job_id) if e.type == "iteration:complete"]
    assert shown["iteration"] == "user-roles"
    assert shown["applied"] != []
    assert shown.items() <= told.data.items()
    assert (
        job["tokenUsage"] == _used(await Look(observer, deployment.redis).ledger(job_id)).as_json()
    )


def test_the_table_is_written_down_as_it_is() -> None:
    assert PATH.read_text() == document(), "write it: python -m tests.faults.fault_table"


def test_no_fault_is_there_twice() -> None:
    assert len({fault.name for fault in ALL}) == len(ALL) > 40
