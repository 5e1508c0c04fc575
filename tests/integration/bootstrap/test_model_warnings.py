"""A worker says at its start which of its models will not stay."""

from service.agent.model_stub import ModelStub
from service.domain.job import JsonObject
from service.domain.lifecycle import ModelLifecycle, Stage
from tests.fixtures.processes import Cluster, ServiceProcess
from tests.fixtures.waiting import eventually


def worker_with(cluster: Cluster, address: str) -> ServiceProcess:
    return cluster.start(
        "worker",
        USA_MODEL="anthropic",
        USA_ANTHROPIC_API_KEY="sk-ant-test",
        USA_ANTHROPIC_BASE_URL=address,
    )


async def logged(worker: ServiceProcess, event: str, count: int) -> list[JsonObject]:
    await eventually(
        lambda: len(worker.logged(event)) >= count, within=60.0, what=f"it logs {event}"
    )
    return worker.logged(event)


async def test_a_retired_and_an_unknown_model_are_each_warned_of_once(
    cluster: Cluster, model_stub: ModelStub
) -> None:
    model_stub.catalogue.lifecycles = {
        "claude-haiku-5-5": ModelLifecycle(Stage.ACTIVE),
        "claude-sonnet-5-5": ModelLifecycle(Stage.RETIRED),
    }
    worker = worker_with(cluster, model_stub.address)
    await worker.ready()
    warnings = await logged(worker, "model_warning", 2)
    assert {warning["check"]: warning["level"] for warning in warnings} == {
        "model claude-sonnet-5-5": "warning",
        "model claude-opus-5-5": "warning",
    }


async def test_a_catalogue_that_cannot_be_had_keeps_no_worker_from_its_work(
    cluster: Cluster,
) -> None:
    worker = worker_with(cluster, "http://127.0.0.1:1")
    await worker.ready()
    unchecked = await logged(worker, "model_not_checked", 3)
    assert {each["level"] for each in unchecked} == {"warning"}
    assert worker.logged("model_warning") == []
