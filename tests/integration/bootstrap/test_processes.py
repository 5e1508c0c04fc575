"""Processes start in order, leave nothing behind when they cannot, and end what they began."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import pytest
from pydantic import SecretStr

from service.agent.anthropic_model import MissingApiKey
from service.bootstrap import Running, running_all_in_one, running_api, running_worker
from service.bootstrap import processes as processes_module
from service.bootstrap.connections import MissingAddress
from service.domain.errors import Unavailable
from service.embedded import EmbeddedPostgres, EmbeddedValkey
from service.postgres.schema import SchemaMismatch
from service.settings import Settings
from tests.fixtures.database import Observer
from tests.fixtures.deployment import Deployment
from tests.fixtures.factories import a_new_job
from tests.fixtures.proxy import redis_proxy_to
from tests.fixtures.servers import as_role
from tests.fixtures.waiting import eventually

Start = Callable[[Settings], AbstractAsyncContextManager[Running]]
EVERY_PROCESS: list[Start] = [running_api, running_worker, running_all_in_one]


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


async def what_is_open(deployment: Deployment, observer: Observer) -> dict[str, int]:
    """Tasks, threads' leases, and connections of the service, by kind."""
    clients: Any = await deployment.redis.client_list()
    return {
        "tasks": len(asyncio.all_tasks()) - 1,
        "postgres": int(
            await observer.connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name LIKE 'usa-%'"
            )
        ),
        "redis": sum(client["name"].startswith("usa-") for client in clients),
    }


async def nothing_is_left(
    deployment: Deployment, observer: Observer, before: dict[str, int]
) -> None:
    """Return once everything that was opened is closed again."""

    async def is_as_before() -> bool:
        return await what_is_open(deployment, observer) == before

    await eventually(is_as_before, within=3, what=f"only {before} is open")


@pytest.mark.parametrize("run", EVERY_PROCESS)
async def test_a_process_that_has_ended_has_left_nothing_open(
    deployment: Deployment, observer: Observer, run: Start
) -> None:
    before = await what_is_open(deployment, observer)

    async with run(deployment.settings) as running:

        async def is_at_work() -> bool:
            during = await what_is_open(deployment, observer)
            return all(during[kind] > before[kind] for kind in before)

        await eventually(is_at_work, what="it has connected")
        assert not running.crashed.is_set()

    await nothing_is_left(deployment, observer, before)


@pytest.mark.parametrize("run", EVERY_PROCESS)
async def test_a_process_without_work_ends_at_once_in_whatever_moment(
    deployment: Deployment, run: Start
) -> None:
    for turns in (0, 1, 2, 3, 5, 8, 13, 21, 34):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(run(deployment.settings))
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(2):
                await stack.aclose()


async def _try(run: Start, settings: Settings) -> None:
    async with run(settings):
        raise AssertionError("it has started")


@pytest.mark.parametrize("run", EVERY_PROCESS)
@pytest.mark.parametrize("which", ["port", "metrics_port"])
async def test_a_busy_port_leaves_nothing_open(
    deployment: Deployment, observer: Observer, busy_port: int, run: Start, which: str
) -> None:
    unused = {(running_worker, "port"), (running_all_in_one, "metrics_port")}
    if (run, which) in unused:
        which = "port" if which == "metrics_port" else "metrics_port"
    before = await what_is_open(deployment, observer)
    settings = deployment.settings.model_copy(update={which: busy_port})

    with pytest.raises(OSError, match="address already in use"):
        await _try(run, settings)

    await nothing_is_left(deployment, observer, before)


@pytest.mark.parametrize("run", EVERY_PROCESS)
async def test_an_old_schema_is_refused_and_leaves_nothing_open(
    deployment: Deployment, observer: Observer, run: Start
) -> None:
    await observer.run("DROP TABLE schema_migrations")
    before = await what_is_open(deployment, observer)

    with pytest.raises(SchemaMismatch, match="usa migrate"):
        await _try(run, deployment.settings)

    await nothing_is_left(deployment, observer, before)


@pytest.mark.parametrize("run", [running_worker, running_all_in_one])
async def test_a_worker_without_the_key_it_needs_leaves_nothing_open(
    deployment: Deployment, observer: Observer, run: Start
) -> None:
    before = await what_is_open(deployment, observer)
    settings = deployment.settings.model_copy(update={"model": "anthropic"})

    with pytest.raises(MissingApiKey):
        await _try(run, settings)

    await nothing_is_left(deployment, observer, before)


@pytest.mark.parametrize("missing", ["redis_url", "database_url"])
async def test_a_missing_address_is_named(deployment: Deployment, missing: str) -> None:
    settings = deployment.settings.model_copy(update={missing: None})

    with pytest.raises(MissingAddress, match=f"USA_{missing.upper()}"):
        await _try(running_api, settings)


async def test_a_process_waits_a_while_for_postgres_and_then_leaves(
    deployment: Deployment,
    observer: Observer,
    postgres_server: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    postgres_server.stop()
    monkeypatch.setattr(processes_module, "_START_PATIENCE", 0.5)
    tasks = len(asyncio.all_tasks())
    with pytest.raises(Unavailable):
        await _try(running_worker, deployment.settings)
    assert len(asyncio.all_tasks()) == tasks

    monkeypatch.undo()
    starting = asyncio.create_task(deployment.start_api())
    await asyncio.sleep(0.3)
    assert not starting.done()
    postgres_server.start()
    assert await starting


async def test_a_process_that_is_called_off_while_it_waits_for_postgres_leaves_at_once(
    deployment: Deployment, postgres_server: EmbeddedPostgres
) -> None:
    postgres_server.stop()
    tasks = len(asyncio.all_tasks())
    starting = asyncio.create_task(_try(running_worker, deployment.settings))
    await asyncio.wait({starting}, timeout=0.2)

    starting.cancel()
    async with asyncio.timeout(1):
        await asyncio.wait({starting})
    postgres_server.start()

    assert starting.cancelled()
    assert len(asyncio.all_tasks()) == tasks


async def _get(deployment: Deployment, url: str) -> tuple[int, str]:
    async with deployment.session.get(url) as response:
        return response.status, await response.text()


async def test_a_worker_that_drains_is_still_to_be_watched(deployment: Deployment) -> None:
    await deployment.start_api()
    watched = await deployment.start_worker(shutdown_grace=20.0)
    job_id = await deployment.submit(agent="sleep", options={"steps": 1, "stepSeconds": 1.5})

    async def is_running() -> bool:
        return bool((await deployment.job(job_id))["status"] == "processing")

    await eventually(is_running, what="the job runs")
    assert (await _get(deployment, f"{watched}/readyz"))[0] == 200
    stopping = asyncio.create_task(deployment.stop(watched))

    async def is_draining() -> bool:
        status, text = await _get(deployment, f"{watched}/readyz")
        return status == 503 and '"draining"' in text

    await eventually(is_draining, within=1, what="it is not ready any more")
    assert (await _get(deployment, f"{watched}/healthz"))[0] == 200
    assert "usa_worker_slots" in (await _get(deployment, f"{watched}/metrics"))[1]
    assert not stopping.done()
    await stopping
    assert (await deployment.job(job_id))["status"] == "completed"


@pytest.mark.parametrize("run", [running_api, running_all_in_one])
async def test_an_api_that_leaves_says_so_for_a_while_which_a_second_request_cuts_short(
    deployment: Deployment, observer: Observer, run: Start
) -> None:
    before = await what_is_open(deployment, observer)
    started: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    async def serve() -> None:
        settings = deployment.settings.model_copy(update={"drain_delay": 600.0})
        async with run(settings) as running:
            started.set_result(running)
            await asked.wait()

    process = asyncio.create_task(serve())
    address = (await started).address
    assert (await _get(deployment, f"{address}/readyz"))[0] == 200
    asked.set()

    async def is_draining() -> bool:
        status, text = await _get(deployment, f"{address}/readyz")
        return status == 503 and '"draining"' in text

    await eventually(is_draining, what="it is not ready any more")
    async with deployment.session.get(f"{address}/healthz") as response:
        assert (response.status, response.headers.get("Connection")) == (200, "close")
    assert not process.done()
    process.cancel()
    await asyncio.wait({process})

    assert process.cancelled()
    await nothing_is_left(deployment, observer, before)


async def test_a_round_under_way_ends_before_the_process_does(
    deployment: Deployment, observer: Observer
) -> None:
    """A relay cut off between adding an entry and marking it would add a second one later."""
    async with redis_proxy_to(str(deployment.settings.redis_url.get_secret_value())) as (  # type: ignore[union-attr]
        proxy,
        url,
    ):
        settings = {**deployment.settings.model_dump(), "redis_url": url}
        address = await _start_api(deployment, Settings(**settings))
        [job] = [await deployment.stores.jobs.accept(a_new_job())]
        proxy.delay(0.1)
        await observer.run("UPDATE jobs SET relay_after = clock_timestamp()")

        async def is_taken() -> object:
            return await observer.value(
                "SELECT true FROM jobs WHERE relay_after > clock_timestamp()"
            )

        await eventually(is_taken, what="the relay has taken the job")
        await deployment.stop(address)

    row = await observer.row("SELECT entry_id FROM jobs WHERE id = $1", job.job.id)
    assert row["entry_id"] is not None


async def _start_api(deployment: Deployment, settings: Settings) -> str:
    deployment.settings = settings
    return await deployment.start_api()


@pytest.mark.parametrize("probe", ["/healthz", "/readyz", "/metrics"])
async def test_an_api_is_watched_at_a_port_of_its_own(deployment: Deployment, probe: str) -> None:
    async with running_api(deployment.settings) as running:
        assert running.metrics_address not in {None, running.address}
        assert (await _get(deployment, f"{running.metrics_address}{probe}"))[0] == 200
        metrics = (await _get(deployment, f"{running.address}/metrics"))[0]

    assert metrics == 404


@pytest.mark.parametrize("start", EVERY_PROCESS)
async def test_a_process_starts_without_redis_and_the_streams_are_made_when_it_is_back(
    deployment: Deployment, valkey_server: EmbeddedValkey, start: Start
) -> None:
    valkey_server.kill()
    try:
        async with start(deployment.settings):
            valkey_server.start()
            await eventually(lambda: deployment.redis.exists("{usa}:jobs"), within=20.0)
    finally:
        if not valkey_server.is_running:
            valkey_server.start()


async def test_a_process_does_not_wait_long_at_its_start_for_a_redis_that_hangs(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes_module, "_REDIS_PATIENCE", 0.2)
    url = deployment.settings.redis_url
    assert url is not None
    async with redis_proxy_to(url.get_secret_value()) as (proxy, through):
        proxy.freeze()
        settings = {**deployment.settings.model_dump(), "redis_url": through}
        async with running_api(Settings(**settings)) as running:
            proxy.thaw()
            assert running.address is not None
            await eventually(lambda: deployment.redis.exists("{usa}:jobs"), within=20.0)


async def test_a_process_is_ready_without_redis_and_not_without_postgres(
    deployment: Deployment, valkey_server: EmbeddedValkey, postgres_server: EmbeddedPostgres
) -> None:
    watched = await deployment.start_worker()

    valkey_server.kill()
    without_redis = await _get(deployment, f"{watched}/readyz")
    postgres_server.stop()
    without_both = await _get(deployment, f"{watched}/readyz")
    alive = await _get(deployment, f"{watched}/healthz")
    postgres_server.start()
    valkey_server.start()

    assert without_redis == (
        200,
        '{"status":"degraded","checks":{"postgres":"ok","redis":"unavailable"}}',
    )
    assert without_both == (
        503,
        '{"status":"unavailable","checks":{"postgres":"unavailable","redis":"unavailable"}}',
    )
    assert alive[0] == 200


@pytest.mark.parametrize("run", EVERY_PROCESS)
async def test_a_process_whose_role_cannot_run_jobs_does_not_start(
    deployment: Deployment, migrated_url: str, run: Start
) -> None:
    settings = deployment.settings.model_copy(
        update={"database_url": SecretStr(as_role(migrated_url, "usa_api"))}
    )
    with pytest.raises(SchemaMismatch, match="lacks grants"):
        await _try(run, settings)
