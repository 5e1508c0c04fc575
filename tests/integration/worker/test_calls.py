"""Calls and their ledger rows, under locks and outages of a real Postgres."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from pydantic import SecretStr

from service.domain.job import JobStatus, JsonObject
from service.ports.agent import Attempt
from tests.fixtures.agents import Acting
from tests.fixtures.models import HeldModel, ScriptedModel
from tests.fixtures.proxy import proxy_to
from tests.fixtures.waiting import eventually
from tests.integration.worker.workplace import Workplace, calling


async def test_a_call_that_was_cut_off_while_it_was_opened_costs_nothing(
    workplace: Workplace,
) -> None:
    model, may_call = ScriptedModel(), asyncio.Event()

    async def act(attempt: Attempt) -> JsonObject:
        await may_call.wait()
        return await calling(model).act(attempt)

    job_id = await workplace.submit()
    async with workplace.worker(Acting(act)) as pool:
        (processor,) = await eventually(lambda: pool.processors)
        async with workplace.observer.transaction():
            await workplace.observer.run("SELECT FROM jobs FOR UPDATE")
            may_call.set()
            await workplace.observer.somebody_waits_for_a_lock()
            # The opening is on its way: only its answer can be given up.
            processor.hand_back()
        await eventually(lambda: not pool.processors)

    assert model.called == []
    assert await workplace.ledger(job_id) == [(1, "draft", "aborted")]
    usage = "SELECT sum(input_tokens + output_tokens) + sum(cost_usd) FROM usage_records"
    assert await workplace.observer.value(usage) == 0
    assert (await workplace.job(job_id)).handback_count == 1


async def test_an_outage_of_postgres_burns_no_paid_call(
    workplace: Workplace, logged: list[MutableMapping[str, Any]]
) -> None:
    def was_logged(event: str, **details: str) -> bool:
        wanted = {"event": event, **details}
        return any(wanted.items() <= line.items() for line in logged)

    model = HeldModel()
    job_id = await workplace.submit()
    database = workplace.settings.database_url
    assert database is not None
    async with proxy_to(database.get_secret_value()) as (proxy, url):
        agent, through = calling(model, "one", "two"), SecretStr(url)
        async with workplace.worker(agent, database_url=through) as pool:
            await eventually(model.at_work.is_set)
            proxy.freeze()
            proxy.cut()
            await eventually(lambda: was_logged("lease_in_doubt"))
            # The call goes on, and ends while nobody can be told.
            assert [processor.is_processing for processor in pool.processors] == [True]
            model.released.set()
            await eventually(lambda: was_logged("retrying_while_unavailable", what="close_call"))
            assert model.called == ["one"]
            proxy.thaw()
            assert await workplace.ended(job_id, within=15.0) == [JobStatus.COMPLETED]
            await workplace.is_idle()

    job = await workplace.job(job_id)
    assert (job.attempt, job.error_count, job.crash_count) == (1, 0, 0)
    assert model.called == ["one", "two"]
    assert [ending for _, _, ending in await workplace.ledger(job_id)] == ["finished"] * 2


async def test_connections_to_postgres_that_break_during_a_call_cost_no_error(
    workplace: Workplace,
) -> None:
    model = HeldModel()
    job_id = await workplace.submit()
    async with workplace.worker(calling(model, "one", "two", "three")) as pool:
        await eventually(model.at_work.is_set)
        await workplace.observer.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name IN ('worker', $1)",
            f"{pool.worker_id}-leases",
        )
        model.released.set()
        assert await workplace.ended(job_id) == [JobStatus.COMPLETED]
        await workplace.is_idle()

    job = await workplace.job(job_id)
    assert (job.attempt, job.error_count, job.crash_count) == (1, 0, 0)
