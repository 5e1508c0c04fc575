"""A real Prometheus scrapes the service at work: every panel has something to show."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest

from service.agent.model_stub import ModelStub
from service.bootstrap import create_api_key
from service.domain.api_keys import Scope
from service.domain.job import Owner
from service.domain.upstream import Rates
from service.settings import Settings
from tests.fixtures.observability import metrics_in, queries
from tests.fixtures.processes import Cluster, ServiceProcess
from tests.fixtures.prometheus import Prometheus, running_prometheus
from tests.fixtures.scale import scaled
from tests.fixtures.scraping import counted
from tests.fixtures.tools import needed_program
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.timeout(scaled(150, 400))

needed_program("prometheus")

JOBS = scaled(20, 200)
WORKERS = 3
_END_WHO_HOLDS_A_LOCK = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND datname = current_database()"
)
ONCE = 'count(usa_queue_jobs{state="queued"})'


@pytest.fixture
async def stub() -> AsyncIterator[ModelStub]:
    """A stand-in for Claude with limits that nobody reaches, slow enough to be interrupted."""
    stub = ModelStub(pause=0.05, limits=Rates(requests=1e6, input=1e9, output=1e9))
    await stub.start()
    yield stub
    await stub.stop()


async def target(process: ServiceProcess) -> str:
    """Where a process is scraped."""
    return str((await process.ready())["metrics"]).removeprefix("http://")


async def submit(cluster: Cluster) -> list[UUID]:
    """Submit the stories all at once."""
    async with cluster.client() as client:
        answers = await asyncio.gather(
            *(
                client.submit(f"As a user, I want thing {n}", iterations=["validation", "security"])
                for n in range(JOBS)
            )
        )
    return [UUID(answer["job"]["id"]) for answer in answers]


async def follow(cluster: Cluster, job: UUID) -> None:
    """Watch a job to its end."""
    async with cluster.client() as client:
        async for event in client.follow(job):
            if event.type == "complete":
                return


async def ask_too_often(cluster: Cluster) -> None:
    """Submit what is no story, with a key of the lowest tier, until that is too much."""
    settings = Settings(database_url=cluster.environment["USA_DATABASE_URL"])
    key, _ = await create_api_key(
        settings, Owner("acme", "bob"), name="free", scopes=[Scope.JOBS_WRITE], tier="free",
        valid_for=None,
    )  # fmt: skip
    url, headers = f"{cluster.address}/api/v1/jobs", {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        statuses = [(await session.post(url, json={})).status for _ in range(8)]
    assert 429 in statuses


async def hurt(
    cluster: Cluster, victim: ServiceProcess, survivors: Sequence[ServiceProcess]
) -> None:
    """Let happen what leaves a trace in the metrics of reclaims and failures."""
    victim.kill()

    async def a_round_fails() -> bool:
        await cluster.rows(_END_WHO_HOLDS_A_LOCK)
        return any([await counted(each, "usa_loop_failures_total") for each in survivors])

    await eventually(a_round_fails, within=30, what="a loop loses its connection")


async def leave_an_end_untold(cluster: Cluster) -> None:
    """Let the reconciler find a job whose end its watchers may not have heard of."""
    await cluster.rows(
        "UPDATE jobs SET event_pending = true, completed_at = completed_at - interval '1 minute'"
    )
    untold = "SELECT count(*) FROM jobs WHERE event_pending"

    async def all_are_told() -> bool:
        return await cluster.count(untold) == 0

    await eventually(all_are_told, within=30, what="the reconciler tells all ends")


async def are_linted(processes: list[ServiceProcess]) -> None:
    """Let promtool judge what live processes export."""
    async with aiohttp.ClientSession() as session:
        for process in processes:
            async with session.get(f"http://{await target(process)}/metrics") as response:
                text = await response.read()
            command = [needed_program("promtool"), "check", "metrics"]
            done = await asyncio.to_thread(
                subprocess.run, command, input=text, capture_output=True, check=False
            )
            assert (done.returncode, done.stdout + done.stderr) == (0, b"")


async def without_data(prometheus: Prometheus) -> list[str]:
    """The queries of the dashboard that come to nothing."""
    return [str(each) for each in queries() if not await prometheus.query(each.text)]


async def test_every_panel_shows_data_and_the_queue_is_exported_once(
    cluster: Cluster, stub: ModelStub, tmp_path: Path
) -> None:
    api = await cluster.start_api(USA_MODEL="anthropic")
    victim, *workers = await cluster.start_workers(
        WORKERS,
        USA_MODEL="anthropic",
        ANTHROPIC_API_KEY="sk-ant-of-the-test",
        ANTHROPIC_BASE_URL=stub.address,
        USA_CONCURRENCY=str(scaled(3, 10)),
    )
    targets = {
        "api": [await target(api)],
        "worker": [await target(each) for each in (victim, *workers)],
    }
    async with running_prometheus(tmp_path / "prometheus", targets) as prometheus:
        await prometheus.becomes("sum(up)", 1 + WORKERS)
        await prometheus.becomes(ONCE, 1)

        first, *_ = await submit(cluster)
        following = asyncio.create_task(follow(cluster, first))
        await ask_too_often(cluster)
        await prometheus.becomes("sum(usa_jobs_accepted_total)", JOBS)
        exported = await prometheus.value(f"max_over_time(({ONCE})[5m:500ms])")
        await eventually(
            lambda: cluster.count("SELECT count(*) FROM checkpoints"), within=30, what="a call ends"
        )
        await hurt(cluster, victim, [api, *workers])
        statuses = await cluster.all_ended(JOBS, within=scaled(60, 240))
        await following
        await leave_an_end_untold(cluster)

        assert exported == 1
        assert statuses == {"completed": JOBS}
        await prometheus.becomes(ONCE, 1)
        await prometheus.becomes('max(usa_queue_jobs{state="queued"})', 0)
        assert await prometheus.value("max(max_over_time(usa_queue_jobs[5m]))") != 0
        sources = await prometheus.query("sum by (source) (usa_entries_delivered_total) > 0")
        assert {"new", "reclaimed"} <= {labels["source"] for labels, _ in sources}
        iterations = await prometheus.query("sum by (iteration) (usa_iteration_seconds_count)")
        assert {labels["iteration"] for labels, _ in iterations} == {"validation", "security"}
        await are_linted([api, *workers])
        await shows_everything(prometheus)


async def shows_everything(prometheus: Prometheus) -> None:
    """All panels have data, and all rules can be evaluated, on metrics that there are."""

    async def look() -> bool:
        return not await without_data(prometheus)

    try:
        await eventually(look, within=20)
    except AssertionError:
        assert await without_data(prometheus) == []
    groups = (await prometheus.ask("rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    read = {name for rule in rules for name in metrics_in(rule["query"])}
    missing = [name for name in read if not await prometheus.query(f"last_over_time({name}[10m])")]
    assert missing == []
    firing = await prometheus.query('ALERTS{alertstate="firing",severity="critical"}')
    assert firing == []
