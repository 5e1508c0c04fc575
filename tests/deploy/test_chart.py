"""The Helm chart, linted and rendered by Helm's own engine, checked against Kubernetes' schemas."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.fixtures.tools import needed_module

helm = needed_module("helm_python")
kubernetes = needed_module("kubernetes_validate")
yaml = needed_module("yaml")

CHART = Path(__file__).parents[2] / "helm" / "user-story-service"
OFFLINE = {"config": {"USA_MODEL": "offline"}}
PRIVATE = {
    "image": {"repository": "registry.example/usa", "tag": "1", "pullSecrets": ["registry"]},
    "serviceAccount": {"annotations": {"example.com/role": "stories"}},
}
ROLES = {
    "secrets": {
        "apiDatabaseUrl": {"name": "stories-api", "key": "url"},
        "migrateDatabaseUrl": {"name": "stories-owner", "key": "url"},
    }
}
# The chart gives these itself; the embedded servers' folder means nothing in a pod.
SET_BY_THE_CHART = {
    "redis_url",
    "database_url",
    "api_database_url",
    "anthropic_api_key",
    "shutdown_grace",
    "port",
    "metrics_port",
    "host",
    "home",
}

Document = dict[str, Any]


def render(values: Document | None = None, release: str = "usa") -> dict[str, Document]:
    """Return every object of a release by kind and name."""
    rendered = helm.Chart.load(CHART).render(values or {}, name=release, namespace="stories")
    documents: Iterator[Document] = (
        document
        for path, text in rendered.items()
        if not path.endswith("NOTES.txt")
        for document in yaml.safe_load_all(text)
        if document
    )
    return {f"{d['kind']}/{d['metadata']['name']}": d for d in documents}


def pod_specs(objects: dict[str, Document]) -> dict[str, Document]:
    """Return the pod of every workload, by its component."""
    templates = [d["spec"]["template"] for d in objects.values() if "template" in d.get("spec", {})]
    label = "app.kubernetes.io/component"
    return {t["metadata"]["labels"][label]: t["spec"] for t in templates}


def variables(container: Document) -> dict[str, Document]:
    return {variable["name"]: variable for variable in container.get("env", [])}


@pytest.mark.parametrize(
    "values", [{}, OFFLINE, PRIVATE, ROLES], ids=["default", "offline", "private", "roles"]
)
def test_helm_finds_nothing_to_complain_about(values: Document) -> None:
    report = helm.lint(CHART, values, strict=True)
    worse_than_advice = [m for m in report["messages"] if m["severity"] > 1]
    assert (report["errors"], worse_than_advice) == ([], [])


@pytest.mark.parametrize("version", ["1.25", "1.29", "1.37"])
@pytest.mark.parametrize(
    "values", [{}, OFFLINE, PRIVATE, ROLES], ids=["default", "offline", "private", "roles"]
)
def test_kubernetes_knows_every_field_of_every_object(values: Document, version: str) -> None:
    objects = render(values)
    assert {name.partition("/")[0] for name in objects} == {
        "ConfigMap",
        "Deployment",
        "Job",
        "Service",
        "ServiceAccount",
    }
    for document in objects.values():
        kubernetes.validate(document, version, strict=True)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"conifg": {}}, "'conifg' not allowed"),
        ({"worker": {"replica": 2}}, "'replica' not allowed"),
        ({"config": {"USA_CONCURENCY": "5"}}, "'USA_CONCURENCY' not allowed"),
        ({"config": {"USA_CONCURRENCY": 5}}, "got number, want string"),
        ({"config": {"DATABASE_URL": "postgresql://u:p@db/usa"}}, "'DATABASE_URL' not allowed"),
    ],
)
def test_a_typo_in_values_is_refused(values: Document, problem: str) -> None:
    with pytest.raises(helm.HelmValuesError, match=problem):
        render(values)


def test_values_take_every_setting_that_the_chart_does_not_set_itself() -> None:
    schema = helm.Chart.load(CHART).schema
    offered = set(schema["properties"]["config"]["properties"])
    assert offered == {
        f"USA_{name.upper()}" for name in Settings.model_fields.keys() - SET_BY_THE_CHART
    }


def test_every_value_is_documented_with_its_default() -> None:
    schema = helm.Chart.load(CHART).schema
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values.keys() == schema["properties"].keys() - {"global"}
    for name, part in schema["properties"].items():
        if name not in {"global", "config"}:
            assert values[name].keys() == part["properties"].keys()


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 75),
        ({"shutdownGraceSeconds": 300}, 315),
        ({"shutdownGraceSeconds": 30, "terminationGracePeriodSeconds": 41}, 41),
    ],
)
def test_a_worker_gets_longer_to_stop_than_it_takes(values: Document, seconds: int) -> None:
    objects = render({"worker": values})
    assert pod_specs(objects)["worker"]["terminationGracePeriodSeconds"] == seconds
    grace = objects["ConfigMap/usa-user-story-service"]["data"]["USA_SHUTDOWN_GRACE"]
    assert int(grace) + 10 < seconds


def test_a_worker_that_would_be_killed_while_it_hands_back_is_refused() -> None:
    with pytest.raises(helm.HelmRenderError, match="must be more than"):
        render({"worker": {"shutdownGraceSeconds": 60, "terminationGracePeriodSeconds": 70}})


def test_no_pod_may_more_than_it_must() -> None:
    pods = pod_specs(render())
    assert pods.keys() == {"api", "worker", "migrate"}
    for pod in pods.values():
        [container] = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10_001
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
        assert container["resources"]["limits"]["memory"]


def test_a_service_of_any_name_cannot_set_our_variables() -> None:
    for pod in pod_specs(render(release="usa")).values():
        assert pod["enableServiceLinks"] is False


def test_secrets_are_referred_to_and_only_workers_get_the_key_of_claude() -> None:
    pods = pod_specs(render())
    given = {name: set(variables(pod["containers"][0])) for name, pod in pods.items()}
    assert given == {
        "api": {"DATABASE_URL", "REDIS_URL"},
        "worker": {"DATABASE_URL", "REDIS_URL", "ANTHROPIC_API_KEY"},
        "migrate": {"DATABASE_URL"},
    }
    for pod in pods.values():
        for variable in variables(pod["containers"][0]).values():
            assert "secretKeyRef" in variable["valueFrom"]
    offline = pod_specs(render(OFFLINE))["worker"]["containers"][0]
    assert "ANTHROPIC_API_KEY" not in variables(offline)


def test_each_process_can_have_a_role_of_its_own_in_the_database() -> None:
    pods = pod_specs(render(ROLES))
    given = {
        name: {
            variable: entry["valueFrom"]["secretKeyRef"]["name"]
            for variable, entry in variables(pod["containers"][0]).items()
            if "DATABASE" in variable
        }
        for name, pod in pods.items()
    }
    assert given == {
        "api": {
            "DATABASE_URL": "user-story-service",
            "USA_API_DATABASE_URL": "stories-api",
        },
        "worker": {"DATABASE_URL": "user-story-service"},
        "migrate": {"DATABASE_URL": "stories-owner"},
    }


def test_probes_ask_what_each_process_serves() -> None:
    pods = pod_specs(render())
    for component, port in (("api", "http"), ("worker", "metrics")):
        [container] = pods[component]["containers"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": port}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port}
        assert port in {p["name"] for p in container["ports"]}


def test_the_schema_is_migrated_before_anything_new_runs() -> None:
    job = render()["Job/usa-user-story-service-migrate"]
    hooks = job["metadata"]["annotations"]["helm.sh/hook"].split(",")
    pod = job["spec"]["template"]["spec"]
    assert set(hooks) == {"pre-install", "pre-upgrade"}
    # Neither of these exists yet when the hook of the first install runs.
    assert "serviceAccountName" not in pod
    assert "envFrom" not in pod["containers"][0]


def test_a_changed_setting_replaces_the_pods() -> None:
    def checksum(values: Document) -> str:
        deployment = render(values)["Deployment/usa-user-story-service-worker"]
        annotations: dict[str, str] = deployment["spec"]["template"]["metadata"]["annotations"]
        return annotations["checksum/config"]

    assert checksum({"config": {"USA_LEASE": "20"}}) != checksum({"config": {"USA_LEASE": "30"}})


def test_a_selector_finds_its_own_pods_and_no_others() -> None:
    objects = render()
    service = objects["Service/usa-user-story-service"]["spec"]["selector"]
    for component in ("api", "worker"):
        deployment = objects[f"Deployment/usa-user-story-service-{component}"]["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        assert deployment["selector"]["matchLabels"].items() <= labels.items()
        assert (service.items() <= labels.items()) is (component == "api")
