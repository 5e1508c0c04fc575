"""kill -9 between two calls of one iteration, or during the second: what was paid stays paid."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson
import pytest

from service.agent.model_stub import Fault, FaultKind, ModelStub, write_reply
from service.client.event_stream import StreamEvent
from service.domain.job import JsonObject
from tests.faults.aftermath import nothing_went_wrong
from tests.fixtures.failpoints import Failpoint
from tests.fixtures.invariants import faults_of_stories
from tests.fixtures.processes import Cluster
from tests.fixtures.waiting import eventually

STORY = "As a user, I want to log in, so that I can see my orders"
KEY = "sk-ant-of-the-test"
SHORT = {"USA_LEASE": "1.6", "USA_RENEW_EVERY": "0.4", "USA_MODEL": "anthropic"}
PASSED_AT_ONCE: Final = ("draft", "verify")
PASSED_AFTER_A_REDO: Final = ("draft", "verify", "redo", "reverify")


@dataclass(frozen=True, kw_only=True)
class Crash:
    """A worker that dies at a failpoint, or else during its `during`-th call.

    `steps` are the iteration's; `again` is the call that was opened in vain, if any was.
    """

    name: str
    steps: Sequence[str]
    failpoint: Failpoint | None = None
    during: int = 0
    again: str | None = None

    @property
    def made(self) -> list[str]:
        """The calls that the model's side gets to see."""
        if not self.during:
            return list(self.steps)
        return [*self.steps[: self.during], *self.steps[self.during - 1 :]]


def _crashes(steps: Sequence[str]) -> list[Crash]:
    """Die between the last two of these steps, and during the last."""
    last, paid = steps[-1], len(steps) - 1
    opening, closing = "postgres.open_calls_if_current", "postgres.close_calls"
    named = f"{steps[-2]} and {last}"
    return [
        Crash(
            name=f"between {named}, before anybody heard of the first",
            steps=steps,
            failpoint=Failpoint(f"{closing}.after", "kill", paid),
        ),
        Crash(
            name=f"between {named}",
            steps=steps,
            failpoint=Failpoint(f"{opening}.before", "kill", paid + 1),
        ),
        Crash(
            name=f"between {named}, with the second written down as begun",
            steps=steps,
            failpoint=Failpoint(f"{opening}.after", "kill", paid + 1),
            again=last,
        ),
        Crash(name=f"during {last}", steps=steps, during=len(steps), again=last),
    ]


CRASHES = [*_crashes(PASSED_AT_ONCE), *_crashes(PASSED_AFTER_A_REDO)]


def step_of(body: JsonObject) -> str:
    """Which step a request to the model is for."""
    asked = body["messages"][0]["content"]
    if "patches" in body["output_config"]["format"]["schema"]["properties"]:
        return "redo" if '"reviewFindings"' in asked else "draft"
    return "reverify" if "(redone)" in asked else "verify"


def _write(body: JsonObject, steps: Sequence[str]) -> str:
    """Reply to a request alone, whoever makes it, so that the iteration takes these steps."""
    step, reply = step_of(body), orjson.loads(write_reply(body))
    if step == "redo":
        for patch in reply["patches"]:
            patch["text"] += " (redone)"
    if step == "verify" and "redo" in steps:
        issue = {"severity": "error", "category": "scope", "description": "It is not implied."}
        reply = {"score": 0.3, "issues": [issue]}
    return orjson.dumps(reply).decode()


@dataclass(frozen=True)
class Scene:
    """A cluster with an API, and a model whose iterations take certain steps."""

    cluster: Cluster
    stub: ModelStub

    @property
    def worker(self) -> dict[str, str]:
        """The environment of its workers."""
        return {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": self.stub.address}

    async def submit(self) -> UUID:
        """Submit the story."""
        async with self.cluster.client() as client:
            answer = await client.submit(STORY, iterations=["validation"])
        return UUID(answer["job"]["id"])

    async def watch(self, job_id: UUID) -> list[StreamEvent]:
        """Watch a job to its end."""
        async with self.cluster.client() as client:
            return [event async for event in client.follow(job_id)]

    async def result(self, job_id: UUID) -> JsonObject:
        """A completed job's result."""
        async with self.cluster.client() as client:
            job = await client.get(job_id)
        assert job["status"] == "completed"
        assert job["result"] is not None
        return job["result"]

    async def ledger(self, job_id: UUID) -> list[tuple[int, str, str]]:
        """(attempt, step, ending) of every call, in order."""
        rows = await self.cluster.rows(
            "SELECT attempt, step, ending FROM usage_records WHERE job_id = $1"
            " ORDER BY attempt, call",
            job_id,
        )
        return [(r["attempt"], r["step"].partition("/")[2], r["ending"]) for r in rows]

    async def has_died(self, crash: Crash) -> None:
        """Let a worker take the job on and die."""
        if crash.failpoint is not None:
            victim = self.cluster.start_victim("worker", crash.failpoint, **self.worker)
        else:
            stall = Fault(kind=FaultKind.STALL, after=1)
            self.stub.queue_faults(*[None] * (crash.during - 1), stall)
            (victim,) = await self.cluster.start_workers(1, **self.worker)
            await eventually(lambda: self._is_reading(crash.during), what="it reads the reply")
            victim.kill()
        assert await victim.ended(within=40.0) == -signal.SIGKILL

    def _is_reading(self, number: int) -> bool:
        calls = self.stub.calls
        return len(calls) == number and calls[-1].billed.output > 1


OpenScene = Callable[[Sequence[str]], Awaitable[Scene]]


@pytest.fixture
async def open_scene(cluster: Cluster) -> AsyncIterator[OpenScene]:
    """Start an API and a stand-in for Claude."""
    stubs: list[ModelStub] = []

    async def start(steps: Sequence[str]) -> Scene:
        stub = ModelStub(writer=lambda body: _write(body, steps))
        stubs.append(stub)
        await stub.start()
        cluster.environment |= SHORT
        await cluster.start_api()
        return Scene(cluster, stub)

    yield start
    for stub in stubs:
        await stub.stop()


@pytest.mark.parametrize("crash", CRASHES, ids=lambda crash: crash.name)
async def test_a_call_that_was_paid_is_kept_wherever_its_worker_died(
    open_scene: OpenScene, crash: Crash
) -> None:
    scene = await open_scene(crash.steps)
    disturbed = await scene.submit()
    watching = asyncio.create_task(scene.watch(disturbed))

    await scene.has_died(crash)
    await scene.cluster.start_workers(1, **scene.worker)
    told = await asyncio.wait_for(watching, 40.0)
    made = [step_of(call.body) for call in scene.stub.calls]
    rows = await scene.ledger(disturbed)
    undisturbed = await scene.submit()
    await scene.watch(undisturbed)

    assert made == crash.made
    assert [step for _, step, ending in rows if ending == "finished"] == list(crash.steps)
    in_vain = [(attempt, step) for attempt, step, ending in rows if ending == "abandoned"]
    assert in_vain == ([(1, crash.again)] if crash.again else [])
    assert _lasting(await scene.result(disturbed)) == _lasting(await scene.result(undisturbed))
    assert [event.data["attempt"] for event in told if event.type == "start"][-1] == 2
    assert await faults_of_stories(scene.cluster, {disturbed: told}) == []
    await nothing_went_wrong(scene.cluster, dict.fromkeys((disturbed, undisturbed), "completed"))


def _lasting(result: JsonObject) -> JsonObject:
    """Leave out what may differ: how long it took, what the cache saved and what was abandoned."""
    measured = {"durationMs", "tokenUsage", "costUsd"}

    def without(document: JsonObject) -> dict[str, Any]:
        return {key: value for key, value in document.items() if key not in measured}

    return {**without(result), "iterations": [without(each) for each in result["iterations"]]}
