"""Clients that submit and cancel as planned, and write down what they were told."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Any
from uuid import UUID

import aiohttp
import orjson

from tests.chaos.plan import TENANTS, PlannedJob
from tests.chaos.world import World

_PATIENCE = 15.0
_LONGEST_WAIT = 1.0
# Every so many submissions the same request is sent to both replicas at once.
_TWICE_EVERY = 20


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What a client was told about its submission; `at` is the time of the answer."""

    job_ids: tuple[UUID, ...]
    at: float
    failures: int


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The answer to one DELETE and its time."""

    status: int
    at: float


@dataclass
class Clients:
    """All clients of a run; `accepted` and `cancellations` are ledgers that only grow."""

    world: World
    session: aiohttp.ClientSession
    accepted: dict[str, Acceptance] = field(default_factory=dict)
    cancellations: dict[str, Cancellation] = field(default_factory=dict)
    redriven: set[str] = field(default_factory=set)
    refusals: Counter[str] = field(default_factory=Counter)
    probes: int = 0

    async def submit(self, job: PlannedJob) -> UUID:
        """Submit until it is accepted, with the same key, wherever somebody answers."""
        copies = 2 if job.number % _TWICE_EVERY == 0 else 1
        answers = await asyncio.gather(
            *(self._accepted(body_of(job), job.key, job.tenant, job.user, replica=job.number + n)
              for n in range(copies))
        )  # fmt: skip
        ids = tuple(job_id for job_id, _ in answers)
        self.accepted[job.nonce] = Acceptance(ids, time(), sum(each[1] for each in answers))
        self.world.job_ids[job.nonce] = ids[0]
        return ids[0]

    async def _accepted(
        self, body: Mapping[str, Any], key: str, tenant: int, user: int, *, replica: int
    ) -> tuple[UUID, int]:
        failures = 0
        while True:
            status, document = await self.ask(
                "POST", "/api/v1/jobs", tenant, user, replica + failures, body, key
            )
            if status == 202:
                return UUID(document["job"]["id"]), failures
            if status in {400, 401, 403, 413, 422}:
                raise AssertionError(f"a good submission was refused with {status}: {document}")
            failures += 1
            await asyncio.sleep(min(_LONGEST_WAIT, 0.1 * failures))

    async def cancel(self, job: PlannedJob) -> None:
        """Cancel until somebody answers for good."""
        replica = job.number
        while True:
            path = f"/api/v1/jobs/{self.world.job_ids[job.nonce]}"
            status, _ = await self.ask("DELETE", path, job.tenant, job.user, replica)
            if status in {200, 404, 409}:
                self.cancellations.setdefault(job.nonce, Cancellation(status, time()))
                return
            replica += 1
            await asyncio.sleep(0.2)

    async def redrive_once_failed(self, job: PlannedJob) -> None:
        """Wait until the job has failed, mend its cause and queue it again, until that is so."""
        path = f"/api/v1/jobs/{self.world.job_ids[job.nonce]}"
        replica = job.number
        while True:
            replica += 1
            _, document = await self.ask("GET", path, job.tenant, job.user, replica)
            status = (document or {}).get("status")
            if job.nonce in self.redriven and status not in {"failed", None}:
                return
            if status == "failed":
                self.world.model.pardon(job.nonce)
                self.redriven.add(job.nonce)
                await self.ask("POST", f"{path}/redrive", job.tenant, job.user, replica)
            elif status in {"completed", "cancelled"}:
                return
            await asyncio.sleep(0.5)

    async def run_probe(self, within: float) -> float:
        """Submit a job that ends at once and return the time at which it has ended."""
        self.probes += 1
        key = f"probe-{self.probes:04d}"
        body = {"story": f"As a probe, I want {key}", "agent": "noop"}
        deadline = monotonic() + within
        job_id, _ = await self._accepted(body, key, 0, 0, replica=self.probes)
        while monotonic() < deadline:
            rows = await self.world.rows("SELECT status FROM jobs WHERE id = $1", job_id)
            if rows and rows[0]["status"] == "completed":
                break
            await asyncio.sleep(0.02)
        return time()

    async def ask(
        self,
        method: str,
        path: str,
        tenant: int,
        user: int,
        replica: int,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> tuple[int, Any]:
        """Make one call; status 0 when nobody answered."""
        headers = {"Authorization": f"Bearer {self.world.keys[tenant, user]}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Idempotency-Key"] = key
        data = None if body is None else orjson.dumps(body)
        try:
            async with self.session.request(
                method,
                self.world.address(replica) + path,
                headers=headers,
                data=data,
                timeout=aiohttp.ClientTimeout(total=_PATIENCE),
            ) as response:
                text = await response.read()
                if response.status >= 400:
                    self.refusals[f"{method} {response.status}"] += 1
                return response.status, orjson.loads(text) if text else None
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError):
            self.refusals[f"{method} unanswered"] += 1
            return 0, None


def body_of(job: PlannedJob) -> dict[str, Any]:
    """What a client posts for a planned job; its story names its nonce and its tenant."""
    body: dict[str, Any] = {
        "story": f"As a {canary(job.tenant)} clerk, I want to file {job.nonce}, so that it is kept"
    }
    if job.agent != "user-story":
        body["agent"] = job.agent
    if job.agent == "sleep":
        body["options"] = {"steps": job.steps, "stepSeconds": job.seconds / job.steps}
    if job.agent == "user-story":
        body |= {"iterations": list(job.iterations), "options": {"verify": job.verify}}
    return body


def canary(tenant: int) -> str:
    """A word that stands in every story of a tenant and in nobody else's."""
    return f"canary{TENANTS[tenant]}"
