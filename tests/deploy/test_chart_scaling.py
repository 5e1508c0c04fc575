"""Autoscaling: who counts replicas, what is counted, and that busy workers are let be."""

from typing import Any

import pytest

from service.settings import Settings
from service.streams import keys
from tests.deploy.chart import NAME, VALUES, Document, merged, render
from tests.fixtures.deployment import Deployment
from tests.fixtures.waiting import eventually

WORKER = f"Deployment/{NAME}-worker"
API = f"Deployment/{NAME}-api"
STREAMS = {
    "worker": {"autoscaling": {"by": "keda", "keda": {"redis": {"addresses": ["redis:6379"]}}}}
}


def scaled_object(values: Document) -> Document:
    spec: Document = render(values)[f"ScaledObject/{NAME}-worker"]["spec"]
    return spec


@pytest.mark.parametrize("name", VALUES)
def test_replicas_are_counted_by_one_only(name: str) -> None:
    objects = render(VALUES[name])
    scalers = [
        d["spec"]["scaleTargetRef"]["name"]
        for d in objects.values()
        if d["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}
    ]
    for target in (API, WORKER):
        fixed = "replicas" in objects[target]["spec"]
        assert fixed + scalers.count(target.partition("/")[2]) == 1


def test_keda_asks_both_job_streams_for_what_waits_and_what_runs() -> None:
    metadata = [t["metadata"] for t in scaled_object(STREAMS)["triggers"]]
    measures = {
        (m["stream"], measure)
        for m in metadata
        for measure in ("lagCount", "pendingEntriesCount", "streamLength")
        if measure in m
    }
    assert measures == {
        (stream, measure)
        for stream in (keys.JOBS, keys.AGAIN)
        for measure in ("lagCount", "pendingEntriesCount")
    }
    for each in metadata:
        assert each["consumerGroup"] == keys.GROUP
        # Or one job would not wake a worker.
        assert each["activationLagCount"] == "0"
        assert each["address"] == "redis:6379"
        assert all(isinstance(value, str) for value in each.values())


def test_streams_alone_are_added_up_so_that_a_small_backlog_counts_among_busy_workers() -> None:
    spec = scaled_object(STREAMS)
    modifiers = spec["advanced"]["scalingModifiers"]
    terms = set(modifiers["formula"].split(" + "))
    assert terms == {trigger["name"] for trigger in spec["triggers"]}
    assert modifiers["metricType"] == "AverageValue"
    assert "advanced" in spec
    assert "authenticationRef" not in spec["triggers"][0]


def test_prometheus_adds_up_what_the_streams_do_not_show_and_may_be_away() -> None:
    spec = scaled_object(VALUES["keda"])
    [queue] = [t for t in spec["triggers"] if t["type"] == "prometheus"]
    query = 'sum(usa_queue_jobs{namespace="stories",state=~"queued|processing"})'
    assert queue["metadata"]["query"] == query
    # Nothing measured must not mean that there is nothing to do.
    assert queue["metadata"]["ignoreNullValues"] == "false"
    # A formula would fail as a whole with any of its parts.
    assert "scalingModifiers" not in spec["advanced"]
    own = {"worker": {"autoscaling": {"keda": {"prometheus": {"query": "my:queue"}}}}}
    assert (
        scaled_object(merged(VALUES["keda"], own))["triggers"][-1]["metadata"]["query"]
        == "my:queue"
    )


@pytest.mark.parametrize("concurrency", [None, "7"])
def test_one_more_worker_is_worth_the_jobs_that_it_runs(concurrency: str | None) -> None:
    config = {} if concurrency is None else {"config": {"USA_CONCURRENCY": concurrency}}
    jobs = concurrency or str(Settings.model_fields["concurrency"].default)
    streams = scaled_object(merged(STREAMS, config))
    assert streams["advanced"]["scalingModifiers"]["target"] == jobs
    queue = scaled_object(merged(VALUES["keda"], config))["triggers"][-1]
    assert queue["metadata"]["threshold"] == jobs
    objects = render(merged(VALUES["no-keda"], config))
    [metric] = objects[f"HorizontalPodAutoscaler/{NAME}-worker"]["spec"]["metrics"]
    assert metric["external"]["target"]["averageValue"] == jobs


def test_busy_workers_are_let_be() -> None:
    spec = scaled_object(merged(VALUES["keda"], {}))
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 20)
    assert spec["cooldownPeriod"] == 600
    hpa = render(VALUES["no-keda"])[f"HorizontalPodAutoscaler/{NAME}-worker"]["spec"]
    for behavior, window in (
        (spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"], 600),
        (hpa["behavior"], 300),
    ):
        down = behavior["scaleDown"]
        assert down["stabilizationWindowSeconds"] == window
        assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
        assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    # Running jobs keep their workers: they count, too.
    [metric] = hpa["metrics"]
    [expression] = metric["external"]["metric"]["selector"]["matchExpressions"]
    assert set(expression["values"]) == {"queued", "processing"}
    # One that is stopped all the same ends what it runs.
    pod = render(VALUES["keda"])[WORKER]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 195


@pytest.mark.parametrize(
    ("redis", "where"),
    [
        (
            {"addresses": ["redis:6379"], "databaseIndex": 3},
            {"address": "redis:6379", "databaseIndex": "3", "enableTLS": "false"},
        ),
        (
            {"type": "redis-cluster-streams", "addresses": ["a:7000", "b:7001"], "tls": True},
            {"addresses": "a:7000,b:7001", "enableTLS": "true"},
        ),
        (
            {"type": "redis-sentinel-streams", "addresses": ["s:26379"], "sentinelMaster": "m"},
            {
                "addresses": "s:26379", "sentinelMaster": "m",
                "databaseIndex": "0", "enableTLS": "false",
            },
        ),
    ],
    ids=["one", "cluster", "sentinel"],
)  # fmt: skip
def test_keda_finds_redis_wherever_it_is(redis: Document, where: dict[str, str]) -> None:
    values = {"worker": {"autoscaling": {"by": "keda", "keda": {"redis": redis}}}}
    measured = {"stream", "consumerGroup", "lagCount", "pendingEntriesCount", "activationLagCount"}
    for trigger in scaled_object(values)["triggers"]:
        assert trigger["type"] == redis.get("type", "redis-streams")
        metadata = trigger["metadata"]
        assert {k: v for k, v in metadata.items() if k not in measured} == where


def test_keda_gets_passwords_by_reference() -> None:
    objects = render(VALUES["keda"])
    secrets = objects[f"TriggerAuthentication/{NAME}-worker"]["spec"]["secretTargetRef"]
    given = VALUES["keda"]["worker"]["autoscaling"]["keda"]["redis"]
    assert {s["parameter"]: {"name": s["name"], "key": s["key"]} for s in secrets} == {
        name: given[name]
        for name in ("username", "password", "sentinelUsername", "sentinelPassword", "ca")
    }
    for trigger in scaled_object(VALUES["keda"])["triggers"]:
        asked = trigger.get("authenticationRef", {}).get("name")
        assert asked == (None if trigger["type"] == "prometheus" else f"{NAME}-worker")


async def test_what_keda_asks_for_is_there_without_any_worker_and_wakes_one(
    deployment: Deployment,
) -> None:
    triggers = [trigger["metadata"] for trigger in scaled_object(STREAMS)["triggers"]]
    idle = {f"{s} {m}": 0 for s in (keys.JOBS, keys.AGAIN) for m in ("lag", "pending")}

    async def asked() -> dict[str, int | None]:
        return dict([await measured(deployment, trigger) for trigger in triggers])

    async def reads(**numbers: int) -> None:
        expected = {**idle, **{f"{keys.JOBS} {name}": n for name, n in numbers.items()}}

        async def look() -> bool:
            return await asked() == expected

        await eventually(look, what=f"KEDA reads {expected}")

    await deployment.start_api()
    assert await asked() == idle

    job = await deployment.submit(agent="sleep", options={"steps": 2, "stepSeconds": 0.5})
    await reads(lag=1)

    worker = await deployment.start_worker()
    await reads(pending=1)
    await deployment.ended(job)
    await reads()
    await deployment.stop(worker)

    # Also after entries were deleted the lag is a number that wakes a worker.
    await deployment.submit()
    await reads(lag=1)


async def measured(deployment: Deployment, trigger: dict[str, Any]) -> tuple[str, int | None]:
    """Return what KEDA reads by a trigger, from where it reads it."""
    stream, group = trigger["stream"], trigger["consumerGroup"]
    if "lagCount" not in trigger:
        pending = await deployment.redis.xpending(stream, group)
        return f"{stream} pending", int(pending["pending"])
    groups = await deployment.redis.xinfo_groups(stream)
    [lag] = [each["lag"] for each in groups if each["name"] == group.encode()]
    return f"{stream} lag", lag
