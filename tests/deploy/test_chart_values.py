"""Values: each is documented, each typo is refused, and so is what could not work."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from service.settings import Settings
from tests.deploy.chart import CHART, VALUES, Document, chart, helm, render, yaml

DEFAULTS: Document = yaml.safe_load((CHART / "values.yaml").read_text())
# The chart gives these itself; the embedded servers' folder means nothing in a pod.
SET_BY_THE_CHART = {
    "redis_url",
    "database_url",
    "api_database_url",
    "anthropic_api_key",
    "shutdown_grace",
    "drain_delay",
    "port",
    "metrics_port",
    "host",
    "home",
}
# Whose keys are Kubernetes' labels and annotations: anything goes.
FREE = {
    "podLabels",
    "podAnnotations",
    "deploymentAnnotations",
    "annotations",
    "labels",
    "matchLabels",
    "nodeSelector",
}
DOCUMENTS = {"values.yaml": DEFAULTS, **{name: v for name, v in VALUES.items() if v}}
EVERY_DOCUMENT = pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)

Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every value in a document, and where it is."""
    parts: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        parts = enumerate(value)
    for key, part in parts:
        yield (*path, key), part
        yield from places(part, (*path, key))


def at(document: Any, path: Path) -> Any:
    for key in path:
        document = document[key]
    return document


def misspellings(key: str) -> set[str]:
    return {key[:-1], key[0].swapcase() + key[1:]}


def is_refused(values: Document) -> bool:
    try:
        render(values)
    except helm.HelmValuesError:
        return True
    return False


@EVERY_DOCUMENT
def test_a_typo_in_any_name_is_refused(document: Document) -> None:
    taken, tried = [], 0
    for path, _ in places(document):
        *above, key = path
        if isinstance(key, int) or FREE & set(above):
            continue
        for typo in misspellings(key) - at(document, tuple(above)).keys():
            wrong = copy.deepcopy(document)
            parent = at(wrong, tuple(above))
            parent[typo] = parent.pop(key)
            tried += 1
            if not is_refused(wrong):
                taken.append((path, typo))
    assert taken == []
    assert tried > len(document)


@EVERY_DOCUMENT
def test_a_value_of_another_kind_is_refused(document: Document) -> None:
    taken = []
    for path, value in places(document):
        wrong = copy.deepcopy(document)
        at(wrong, path[:-1])[path[-1]] = {"no": "such"} if isinstance(value, list) else [["no"]]
        if not is_refused(wrong):
            taken.append(path)
    assert taken == []


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"conifg": {}}, "'conifg' not allowed"),
        ({"worker": {"replica": 2}}, "'replica' not allowed"),
        ({"config": {"USA_CONCURENCY": "5"}}, "'USA_CONCURENCY' not allowed"),
        ({"config": {"USA_CONCURRENCY": 5}}, "got number, want string"),
        ({"config": {"DATABASE_URL": "postgresql://u:p@db/usa"}}, "'DATABASE_URL' not allowed"),
        ({"image": {"digest": "latest"}}, "does not match pattern"),
        ({"tracing": {"endpoint": "http://user:secret@collector"}}, "does not match pattern"),
    ],
)
def test_who_mistypes_is_told_what(values: Document, problem: str) -> None:
    with pytest.raises(helm.HelmValuesError, match=problem):
        render(values)


def keda(**values: Any) -> Document:
    redis = {"addresses": ["redis:6379"], **values.pop("redis", {})}
    more = {"by": "keda", "keda": {"redis": redis, **values.pop("keda", {})}}
    return {"worker": {"autoscaling": {**more, **values}}}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (keda(redis={"addresses": []}), "addresses must say where Redis is"),
        (keda(redis={"addresses": ["a:1", "b:1"]}), "addresses must be one"),
        (keda(redis={"type": "redis-sentinel-streams"}), "sentinelMaster must be set"),
        (keda(redis={"sentinelMaster": "stories"}), "sentinelMaster must be set"),
        (keda(keda={"cooldownSeconds": 59}), r"cooldownSeconds \(59\) must be at least"),
        (keda(minReplicas=11), r"minReplicas \(11\) must not be more than"),
        ({"worker": {"autoscaling": {"by": "hpa", "minReplicas": 0}}}, "must be at least 1 by hpa"),
        ({"api": {"autoscaling": {"enabled": True, "minReplicas": 9}}}, r"\(9\) must not be more"),
        ({"ingress": {"enabled": True}}, "ingress.hosts must name"),
        (
            {"worker": {"shutdownGraceSeconds": 60, "terminationGracePeriodSeconds": 70}},
            "a worker that is killed while it hands back",
        ),
        ({"api": {"terminationGracePeriodSeconds": 40}}, "an api that is killed while it writes"),
    ],
)
def test_what_could_not_work_is_refused_with_its_reason(values: Document, problem: str) -> None:
    with pytest.raises(helm.HelmRenderError, match=problem):
        render(values)


def test_values_take_every_setting_that_the_chart_does_not_set_itself() -> None:
    schema = chart().schema
    offered = set(schema["properties"]["config"]["properties"])
    assert offered == {
        f"USA_{name.upper()}" for name in Settings.model_fields.keys() - SET_BY_THE_CHART
    }


def test_every_value_is_documented_with_its_default() -> None:
    def compare(values: Document, part: Document) -> None:
        assert values.keys() == part["properties"].keys() - {"global"}
        for name, below in part["properties"].items():
            # Settings have their own table, and what is used more than once stands for itself.
            if "properties" in below and name not in {"global", "config"}:
                compare(values[name], below)

    compare(DEFAULTS, chart().schema)


def test_no_object_of_the_schema_takes_names_that_it_does_not_know() -> None:
    schema = chart().schema
    open_ones = [
        path
        for path, part in places(schema)
        if isinstance(part, dict) and "properties" in part and path[-1] != "properties"
        if part.get("additionalProperties") is not False
    ]
    assert open_ones == []
