"""Everything a run needs, started by itself: servers, proxies, the model and the processes."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import redis.asyncio

from service.bootstrap import create_api_key, migrate
from service.domain.api_keys import Scope
from service.domain.job import Owner
from service.embedded import (
    EmbeddedPostgres,
    EmbeddedValkey,
    make_socket_folder,
    remove_socket_folder,
)
from service.settings import Settings
from tests.chaos.model import ChaosModel
from tests.chaos.plan import REPLICAS, TENANTS, USERS_PER_TENANT, Plan
from tests.fixtures.failpoints import Failpoint
from tests.fixtures.processes import ServiceProcess
from tests.fixtures.proxy import Proxy, proxy_to, redis_proxy_to

WORKERS: Final = 8
LEASE: Final = 6.0
GRACE: Final = 2.0
# Who has waited longest gets the next entry, so a victim that waits longer than all others does
# not run idle by chance, as it may where more workers wait than jobs come in a second.
_SERVED_FIRST: Final = {"USA_BLOCK": f"{GRACE - 0.1:g}"}
ENVIRONMENT: Final = {
    "USA_HOST": "127.0.0.1",
    "USA_METRICS_PORT": "0",
    "USA_LEASE": f"{LEASE:g}",
    "USA_RENEW_EVERY": "1.5",
    "USA_SHUTDOWN_GRACE": f"{GRACE:g}",
    "USA_CONCURRENCY": "4",
    "USA_TEST_AGENTS": "1",
    # A run hurts the same job more often than the defaults forgive; budgets have tests of theirs.
    "USA_MAX_ERRORS": "50",
    "USA_MAX_CRASHES": "50",
    "USA_EVENT_RETENTION": "60",
    "USA_MODEL": "anthropic",
    "USA_MODEL_IDLE_TIMEOUT": "5",
    "ANTHROPIC_API_KEY": "sk-ant-chaos",
}

# What the service may never do to a job's row is seen by the database itself.
_HISTORY = """
CREATE TABLE job_history (
  position bigserial PRIMARY KEY, job_id uuid NOT NULL, attempt integer NOT NULL,
  old_status text NOT NULL, new_status text NOT NULL, handbacks integer NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE FUNCTION keep_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO job_history (job_id, attempt, old_status, new_status, handbacks)
  VALUES (new.id, new.attempt, old.status, new.status, new.handback_count);
  RETURN NULL;
END $$;
CREATE TRIGGER keep_history AFTER UPDATE ON jobs FOR EACH ROW
WHEN (
  old.status IS DISTINCT FROM new.status OR old.attempt IS DISTINCT FROM new.attempt
  OR old.result IS DISTINCT FROM new.result
  OR old.final_event_id IS DISTINCT FROM new.final_event_id
)
EXECUTE FUNCTION keep_history();
"""


@dataclass
class Member:
    """One place in the cluster; whoever is killed there is replaced by the next process."""

    command: str
    index: int
    environment: dict[str, str]
    folder: Path
    processes: list[ServiceProcess] = field(default_factory=list)
    _heard: dict[tuple[int, str], str] = field(default_factory=dict)

    @property
    def process(self) -> ServiceProcess:
        """Who is in that place now."""
        return self.processes[-1]

    @property
    def name(self) -> str:
        """Its name in logs and reports."""
        return f"{self.command}-{self.index}"

    @property
    def worker_id(self) -> str | None:
        """The name under which it claims jobs, once it has said it."""
        return self._said("worker_started", "worker")

    @property
    def metrics_address(self) -> str | None:
        """Where it shows its metrics, once it is ready."""
        return self._said("ready", "metrics")

    def _said(self, event: str, field_name: str) -> str | None:
        known = self._heard.get((len(self.processes), event))
        if known is None and (records := self.process.logged(event)):
            known = self._heard[len(self.processes), event] = str(records[0][field_name])
        return known

    def start(self, failpoints: Sequence[Failpoint] = ()) -> None:
        """Put the next process there, without waiting for it."""
        path = self.folder / f"{self.name}.{len(self.processes)}.log"
        environment = self.environment | (_SERVED_FIRST if failpoints else {})
        self.processes.append(ServiceProcess(self.command, environment, path, failpoints))


@dataclass
class World:
    """The cluster under test; `client_key(tenant, user)` authorises its clients."""

    plan: Plan
    folder: Path
    valkey: EmbeddedValkey
    postgres: EmbeddedPostgres
    model: ChaosModel
    redis: "redis.asyncio.Redis"
    proxies: dict[str, Proxy]
    apis: list[Member]
    workers: list[Member]
    keys: dict[tuple[int, int], str]
    job_ids: dict[str, UUID] = field(default_factory=dict)
    _connection: "asyncpg.Connection | None" = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def members(self) -> list[Member]:
        """Every API and worker."""
        return [*self.apis, *self.workers]

    def address(self, replica: int) -> str:
        """The base URL of an API replica; it stays the same over restarts."""
        return f"http://127.0.0.1:{self.apis[replica % REPLICAS].environment['PORT']}"

    async def rows(self, sql: str, *parameters: Any) -> list[asyncpg.Record]:
        """What the database says, asked again until it is there to answer."""
        while True:
            try:
                async with self._asking:
                    return await self._ask(sql, *parameters)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await asyncio.sleep(0.05)

    async def _ask(self, sql: str, *parameters: Any) -> list[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self.postgres.url, timeout=5)
        try:
            return list(await self._connection.fetch(sql, *parameters, timeout=20))
        except BaseException:
            self._connection.terminate()
            raise

    async def number(self, sql: str, *parameters: Any) -> int:
        """One number that the database says."""
        return int((await self.rows(sql, *parameters))[0][0] or 0)

    async def replace(self, member: Member, failpoints: Sequence[Failpoint] = ()) -> None:
        """Reap whoever was in a place and start the next one there."""
        await asyncio.to_thread(member.process.popen.wait)
        member.start(failpoints)


def signal_process(member: Member, number: signal.Signals) -> None:
    """Send a signal to whoever is in that place."""
    os.kill(member.process.popen.pid, number)


@asynccontextmanager
async def running_world(
    plan: Plan, folder: Path, say: Callable[[str], None]
) -> AsyncIterator[World]:
    """Start everything, and stop it again whatever happens."""
    sockets = make_socket_folder()
    async with AsyncExitStack() as stack:
        stack.callback(remove_socket_folder, sockets)
        valkey = EmbeddedValkey(folder / "valkey", sockets)
        # Durable: an immediate stop must not lose what was committed, that would be another fault.
        postgres = EmbeddedPostgres(folder / "postgres", sockets)
        for server in (valkey, postgres):
            server.start()
            stack.callback(server.stop)
        say("Valkey and Postgres are up")
        keys = await _prepare_database(postgres.url)
        model = ChaosModel(plan.jobs)
        await model.stub.start()
        stack.push_async_callback(model.stub.stop)
        client = redis.asyncio.Redis.from_url(valkey.url)
        stack.push_async_callback(client.aclose)
        proxies: dict[str, Proxy] = {}
        environments: dict[str, dict[str, str]] = {}
        for role in ("api", "worker"):
            proxies[f"{role}-postgres"], database_url = await stack.enter_async_context(
                proxy_to(postgres.url)
            )
            proxies[f"{role}-redis"], redis_url = await stack.enter_async_context(
                redis_proxy_to(valkey.url)
            )
            environments[role] = {
                **ENVIRONMENT,
                "DATABASE_URL": database_url,
                "REDIS_URL": redis_url,
                "ANTHROPIC_BASE_URL": model.stub.address,
            }
        logs = folder / "logs"
        logs.mkdir()
        world = World(
            plan,
            folder,
            valkey,
            postgres,
            model,
            client,
            proxies,
            [
                Member("api", n, {**environments["api"], "PORT": str(port)}, logs)
                for n, port in enumerate(free_ports(REPLICAS))
            ],
            [Member("worker", n, environments["worker"], logs) for n in range(WORKERS)],
            keys,
        )
        stack.callback(_kill_all, world)
        for member in world.members:
            member.start()
        await asyncio.gather(*(member.process.ready() for member in world.members))
        say(f"{REPLICAS} APIs and {WORKERS} workers are ready")
        yield world


async def _prepare_database(url: str) -> dict[tuple[int, int], str]:
    settings = Settings(database_url=url)
    await migrate(settings)
    connection = await asyncpg.connect(url)
    await connection.execute(_HISTORY)
    await connection.close()
    keys = {}
    for tenant, name in enumerate(TENANTS):
        for user in range(USERS_PER_TENANT):
            keys[tenant, user], _ = await create_api_key(
                settings,
                Owner(name, f"user-{user}"),
                name="chaos",
                scopes=[Scope.JOBS_READ, Scope.JOBS_WRITE],
                tier="unlimited",
                valid_for=None,
            )
    return keys


def _kill_all(world: World) -> None:
    for member in world.members:
        for process in member.processes:
            process.kill()


def free_ports(count: int) -> Iterable[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
