"""`usa api`, `usa worker` and `usa migrate` on servers that others share."""

import json
import signal
from datetime import date

import pytest

from service.agent.anthropic_model import AnthropicModel
from service.domain.upstream import Observed, Rates
from service.domain.usage import UsageMeter
from tests.fixtures.strangers import free_port
from tests.integration.agent.calls import make_request
from tests.integration.cli.usa import Usa


@pytest.fixture
def shared(usa: Usa, redis_url: str, database_url: str) -> Usa:
    """`usa` with real servers and an empty database."""
    usa.variables |= {
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "USA_HOST": "127.0.0.1",
        "USA_METRICS_PORT": "0",
        "USA_MODEL": "offline",
    }
    return usa


def test_migrations_are_checked_applied_and_then_up_to_date(shared: Usa) -> None:
    missing = shared.run("migrate", "--check", "--json")
    names = missing.document["pending"]
    assert missing.code == 10
    assert names[0].startswith("0001_")

    applied = shared.run("migrate")
    assert (applied.code, applied.out.splitlines()) == (0, names)

    again = shared.run("migrate")
    assert (again.code, again.out) == (0, "")
    assert shared.run("migrate", "--check").code == 0


@pytest.mark.parametrize("process", ["api", "worker"])
def test_a_process_refuses_a_schema_that_is_not_there(shared: Usa, process: str) -> None:
    refused = shared.run(process)
    assert refused.code == 10
    assert "usa migrate" in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.parametrize("process", ["api", "worker"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_process_logs_where_it_is_and_ends_when_asked(
    shared: Usa, process: str, number: signal.Signals
) -> None:
    assert shared.run("migrate").code == 0
    with shared.started(process) as running:
        ready = await running.tells('"event":"ready"')
        running.send(number)
        done = await running.ended()
    assert done.code == 0, done.err
    assert '"metrics":"http://127.0.0.1:' in ready
    assert ('"address":"http://127.0.0.1:' in ready) is (process == "api")
    assert "Traceback" not in done.err


async def test_a_stand_in_for_the_model_enforces_the_limits_that_it_is_given(shared: Usa) -> None:
    limits = ["--limit", "requests=8", "--limit", "input=9000"]
    with shared.started("model-stub", "--json", *limits) as stub:
        address = json.loads(await stub.prints("address"))["address"]
        model = AnthropicModel("any", today=lambda: date(2026, 11, 24), base_url=address)
        meter, heard = UsageMeter(), list[Observed]()
        meter.on_limits = heard.append
        await model.complete(make_request(), meter, lambda _: None)
        await model.close()
    assert [observed.limits for observed in heard] == [Rates(requests=8, input=9000)]


async def test_a_busy_metrics_port_is_named_with_its_own_variable(shared: Usa) -> None:
    assert shared.run("migrate").code == 0
    port = free_port()
    shared.variables["USA_METRICS_PORT"] = str(port)
    with shared.started("model-stub", "--port", str(port)) as stub:
        await stub.prints("listening")
        refused = shared.run("worker")
    assert refused.code == 9
    assert f"port {port} is in use" in refused.err
    assert "USA_METRICS_PORT=" in refused.err


def test_a_worker_for_claude_needs_a_key(shared: Usa) -> None:
    assert shared.run("migrate").code == 0
    shared.variables["USA_MODEL"] = "anthropic"
    refused = shared.run("worker")
    assert refused.code == 3
    assert "ANTHROPIC_API_KEY" in refused.err


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("postgresql://usa@127.0.0.1:1/usa", 4, "check DATABASE_URL"),
        ("postgresql://usa@nobody.invalid/usa", 4, "check DATABASE_URL"),
        ("mysql://usa:s3cr3t@127.0.0.1/usa", 3, "DATABASE_URL: it must begin with postgresql://"),
    ],
)
def test_a_wrong_address_of_postgres_is_told_without_its_secrets(
    usa: Usa, address: str, code: int, said: str
) -> None:
    usa.variables["DATABASE_URL"] = address
    refused = usa.run("migrate")
    assert refused.code == code
    assert said in refused.err
    assert len(refused.err.splitlines()) == 1
    assert "s3cr3t" not in refused.err


def test_a_database_that_is_not_there_is_told(shared: Usa) -> None:
    shared.variables["DATABASE_URL"] = shared.variables["DATABASE_URL"].replace("test_", "nope_")
    refused = shared.run("migrate")
    assert refused.code == 4
    assert "does not exist" in refused.err
    assert len(refused.err.splitlines()) == 1
