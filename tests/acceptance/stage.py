"""A service whose every secret is recognised, with three callers, all of whose answers are seen."""

from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from service.agent.model_stub import ModelStub
from tests.acceptance.canaries import Caller, Canaries, Surfaces, redis_texts, table_texts
from tests.fixtures.collector import Collector
from tests.fixtures.processes import Cluster, ServiceProcess
from tests.fixtures.proxy import Proxy
from tests.fixtures.strangers import free_port
from tests.fixtures.waiting import eventually

JOBS: Final = "/api/v1/jobs"
_ROWS_WITH_STORIES = frozenset({"jobs", "checkpoints"})


@dataclass
class Stage:
    """A service whose every secret is a canary, and everything that is seen of it."""

    cluster: Cluster
    canaries: Canaries
    surfaces: Surfaces
    stub: ModelStub
    collector: Collector
    proxies: tuple[Proxy, Proxy]
    environment: dict[str, str]
    ann: Caller
    token: str
    mallory: Caller
    operator: Caller
    address: str = ""
    monitors: tuple[str, ...] = ()

    async def start(self, command: str, **environment: str) -> ServiceProcess:
        """Start a process and wait until it is ready."""
        port, metrics = free_port(), free_port()
        ports = {"PORT": str(port), "USA_METRICS_PORT": str(metrics)}
        process = self.cluster.start(command, **(self.environment | ports | environment))
        monitor = f"http://127.0.0.1:{metrics}"
        await eventually(lambda: self.is_ready(monitor), within=30, what=f"{command} is ready")
        self.monitors = (*self.monitors, monitor)
        if command == "api":
            self.address = f"http://127.0.0.1:{port}"
        return process

    async def is_ready(self, monitor: str) -> bool:
        """Whether a process can work."""
        try:
            async with self.ann.session.get(f"{monitor}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def submit(self, **call: Any) -> str:
        """Submit Ann's private story and return the job's id."""
        body = {"story": f"As a user, I want {self.canaries.story}", "iterations": ["validation"]}
        status, accepted = await self.ann.ask("POST", self.at(JOBS), json=body, **call)
        assert status == 202, accepted
        job_id: str = accepted["job"]["id"]
        return job_id

    async def ended(self, job_id: str) -> dict[str, Any]:
        """Ann's job once it has ended, with its stream looked at."""

        async def look() -> dict[str, Any] | None:
            status, job = await self.ann.ask("GET", self.at(f"{JOBS}/{job_id}?wait=5"))
            return job if status == 200 and job["completedAt"] else None

        job: dict[str, Any] = await eventually(look, within=60, what="the job ends")
        status, stream = await self.ann.ask("GET", self.at(f"{JOBS}/{job_id}/stream"))
        assert status == 200
        assert stream.count("\ndata: ")
        return job

    def at(self, path: str) -> str:
        """A path of the API."""
        return self.address + path

    async def look_at_everything(self) -> None:
        """Look at what is kept and counted."""
        for monitor in self.monitors:
            async with self.ann.session.get(f"{monitor}/metrics") as response:
                self.surfaces.look("metrics", await response.text())
        for key, text in (await redis_texts(self.cluster.environment["USA_REDIS_URL"])).items():
            events = key.startswith("usa:events:")
            self.surfaces.look("events in Redis" if events else "Redis", key)
            self.surfaces.look(
                "events in Redis" if events else "Redis", text, {"story"} if events else ()
            )
        for table, text in (await table_texts(self.cluster.database)).items():
            allowed = {"story"} if table in _ROWS_WITH_STORIES else set()
            if table == "idempotency_keys":
                allowed = {"idempotency_key"}
            self.surfaces.look(f"table {table}", text, allowed)

    def look_at_traces(self) -> None:
        """Look at what the processes have sent to the collector."""
        for text in self.collector.texts:
            self.surfaces.look("traces", text)

    def look_at_logs(self) -> None:
        """Look at what the processes have written."""
        for process in self.cluster.processes:
            self.surfaces.look("logs", process.log_path.read_text(errors="replace"))
