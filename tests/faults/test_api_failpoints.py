"""An API that is killed or frozen between its commit and whatever follows from it."""

import asyncio
import signal
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from tests.faults import matrix
from tests.faults.aftermath import nothing_went_wrong
from tests.faults.jobs import STORY, submit
from tests.fixtures.failpoints import Failpoint
from tests.fixtures.processes import Cluster, ServiceProcess
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(400)

PATIENCE = aiohttp.ClientTimeout(total=2)
# Their own maintenance would meet the failpoints for others' jobs, or do what they should.
ONLY_REQUESTS = {
    "USA_POLL_INTERVAL": "3600",
    "USA_RECONCILE_INTERVAL": "3600",
    "USA_USER_IN_STREAM": "0",
}


async def start_victims(
    cluster: Cluster, failpoints: Sequence[Failpoint]
) -> dict[str, ServiceProcess]:
    """Start an API for each failpoint, and a healthy one; the victims by their addresses."""
    victims = [cluster.start_victim("api", each, **ONLY_REQUESTS) for each in failpoints]
    await cluster.start_api()
    return {(await victim.ready())["address"]: victim for victim in victims}


async def ask(
    session: aiohttp.ClientSession, method: str, url: str, **options: Any
) -> tuple[int, dict[str, Any]] | None:
    """Ask once; None if there is no answer, or none in time."""
    try:
        async with session.request(method, url, timeout=PATIENCE, **options) as response:
            return response.status, dict(await response.json())
    except (aiohttp.ClientError, TimeoutError):
        return None


def authorized(cluster: Cluster) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"Authorization": f"Bearer {cluster.key}"})


async def released(victims: Sequence[ServiceProcess]) -> None:
    """Let the frozen ones go on; the others are dead, and all have met their failpoints."""
    assert [str(each) for victim in victims for each in victim.unmet] == []
    for victim in victims:
        if victim.failpoints[0].action == "stop":
            assert victim.is_frozen
            victim.send(signal.SIGCONT)
        else:
            assert await victim.ended() == -signal.SIGKILL


async def test_a_repeated_submission_is_one_job_wherever_its_api_was_hurt(
    cluster: Cluster,
) -> None:
    victims = await start_victims(cluster, matrix.ACCEPTING)

    async def submit_to(address: str, key: str) -> UUID | None:
        body = {"story": STORY, "agent": "sleep", "options": {"steps": 2}}
        url, headers = f"{address}/api/v1/jobs", {"Idempotency-Key": key}
        answer = await ask(session, "POST", url, json=body, headers=headers)
        return UUID(answer[1]["job"]["id"]) if answer else None

    async def submit_twice(address: str) -> UUID:
        first = await submit_to(address, address)
        second = await submit_to(cluster.address, address)
        assert second is not None
        assert first in {None, second}
        return second

    async with authorized(cluster) as session:
        jobs = await asyncio.gather(*map(submit_twice, victims))
    assert len(set(jobs)) == len(victims)
    await cluster.start_workers(1)
    await cluster.all_ended(len(jobs), within=90)
    await released(list(victims.values()))

    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))


async def test_a_redriven_job_ends_once_wherever_its_api_was_hurt(cluster: Cluster) -> None:
    victims = await start_victims(cluster, matrix.REDRIVING)
    (worker,) = await cluster.start_workers(1, USA_MAX_ERRORS="1")
    jobs = await submit(cluster, len(victims), steps=2, failures=1)
    assert await cluster.all_ended(len(jobs), within=90) == {"failed": len(jobs)}
    worker.kill()
    await cluster.rows("UPDATE jobs SET options = options || '{\"failures\": 0}'")

    async def redrive_twice(address: str, job_id: UUID) -> None:
        await ask(session, "POST", f"{address}/api/v1/jobs/{job_id}/redrive")
        answer = await ask(session, "POST", f"{cluster.address}/api/v1/jobs/{job_id}/redrive")
        assert answer is not None
        assert answer[0] in {202, 409}

    async with authorized(cluster) as session:
        await asyncio.gather(*map(redrive_twice, victims, jobs))
    await cluster.start_workers(1)
    await cluster.all_ended(len(jobs), within=90)
    await released(list(victims.values()))

    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "completed"))
    # One for the attempt that failed, one for the redrive and one for the attempt after it.
    assert await cluster.count("SELECT count(*) FROM jobs WHERE attempt = 3") == len(jobs)


async def test_a_purged_job_is_gone_wherever_its_api_was_hurt(cluster: Cluster) -> None:
    victims = await start_victims(cluster, matrix.PURGING)
    await cluster.start_workers(1)
    jobs = await submit(cluster, len(victims), steps=2)
    assert await cluster.all_ended(len(jobs), within=90) == {"completed": len(jobs)}

    async def purge_twice(address: str, job_id: UUID) -> None:
        await ask(session, "DELETE", f"{address}/api/v1/jobs/{job_id}?purge=true")
        url = f"{cluster.address}/api/v1/jobs/{job_id}"
        answer = await ask(session, "DELETE", f"{url}?purge=true")
        assert answer is not None
        assert answer[0] in {200, 404}
        gone = await ask(session, "GET", f"{url}/stream")
        assert gone is not None
        assert gone[0] == 404

    async with authorized(cluster) as session:
        await asyncio.gather(*map(purge_twice, victims, jobs))
    await eventually(lambda: all(not each.unmet for each in victims.values()))
    await released(list(victims.values()))

    await nothing_went_wrong(cluster, {})
    assert await cluster.count("SELECT count(DISTINCT job_id) FROM usage_records") == len(jobs)


async def test_a_cancellation_holds_wherever_its_api_was_hurt(cluster: Cluster) -> None:
    victims = await start_victims(cluster, matrix.CANCELLING)
    jobs = await submit(cluster, len(victims), steps=1, stepSeconds=60)
    await cluster.start_workers(1, USA_CONCURRENCY=str(len(jobs) // 2))

    async def half_run() -> bool:
        return (await cluster.statuses()).get("processing") == len(jobs) // 2

    await eventually(half_run, within=60, what="half of the jobs run")

    async def cancel_twice(address: str, job_id: UUID) -> None:
        await ask(session, "DELETE", f"{address}/api/v1/jobs/{job_id}")
        answer = await ask(session, "DELETE", f"{cluster.address}/api/v1/jobs/{job_id}")
        assert answer is not None
        assert answer[1]["status"] == "cancelled"

    async with authorized(cluster) as session:
        await asyncio.gather(*map(cancel_twice, victims, jobs))
    await eventually(lambda: all(not each.unmet for each in victims.values()))
    await released(list(victims.values()))

    await nothing_went_wrong(cluster, dict.fromkeys(jobs, "cancelled"))
