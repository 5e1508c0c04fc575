"""The pods of the Helm chart: what they may, what they know, how they are stopped and replaced."""

import pytest

from service.api.parameters import LONGEST_WAIT
from service.bootstrap import listening, processes
from tests.deploy.chart import NAME, VALUES, Document, merged, pod_specs, render, render_texts

OFFLINE = {"config": {"USA_MODEL": "offline"}}
ROLES = {
    "secrets": {
        "apiDatabaseUrl": {"name": "stories-api", "key": "url"},
        "migrateDatabaseUrl": {"name": "stories-owner", "key": "url"},
    }
}
EVERY_VALUES = pytest.mark.parametrize("name", VALUES)


def variables(container: Document) -> dict[str, Document]:
    return {variable["name"]: variable for variable in container.get("env", [])}


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
    grace = objects[f"ConfigMap/{NAME}"]["data"]["USA_SHUTDOWN_GRACE"]
    assert int(grace) + 10 < seconds


@pytest.mark.parametrize(("sleep", "drain"), [(0, 0), (5, 5), (40, 300)])
def test_an_api_gets_longer_to_stop_than_it_takes(sleep: int, drain: int) -> None:
    after_draining = 2 * listening._LAST_REQUESTS + processes._LAST_ROUNDS + processes._LAST_WRITES
    objects = render({"api": {"preStopSeconds": sleep, "drainSeconds": drain}})
    api = pod_specs(objects)["api"]
    lifecycle = {"preStop": {"exec": {"command": ["sleep", str(sleep)]}}} if sleep else None
    assert api["containers"][0].get("lifecycle") == lifecycle
    assert objects[f"ConfigMap/{NAME}"]["data"]["USA_DRAIN_DELAY"] == str(drain)
    assert api["terminationGracePeriodSeconds"] > sleep + drain + after_draining


@EVERY_VALUES
def test_no_pod_may_more_than_it_must(name: str) -> None:
    pods = pod_specs(render(VALUES[name]))
    assert pods.keys() >= {"api", "worker"}
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
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        writable = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]
        assert writable == ["/tmp"]
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
    job = render()[f"Job/{NAME}-migrate"]
    hooks = job["metadata"]["annotations"]["helm.sh/hook"].split(",")
    pod = job["spec"]["template"]["spec"]
    assert set(hooks) == {"pre-install", "pre-upgrade"}
    # Neither of these exists yet when the hook of the first install runs.
    assert "serviceAccountName" not in pod
    assert "envFrom" not in pod["containers"][0]


def test_a_changed_setting_replaces_the_pods() -> None:
    def checksum(values: Document) -> str:
        deployment = render(values)[f"Deployment/{NAME}-worker"]
        annotations: dict[str, str] = deployment["spec"]["template"]["metadata"]["annotations"]
        return annotations["checksum/config"]

    assert checksum({"config": {"USA_LEASE": "20"}}) != checksum({"config": {"USA_LEASE": "30"}})


def test_a_selector_finds_its_own_pods_and_no_others() -> None:
    objects = render()
    service = objects[f"Service/{NAME}"]["spec"]["selector"]
    for component in ("api", "worker"):
        deployment = objects[f"Deployment/{NAME}-{component}"]["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        assert deployment["selector"]["matchLabels"].items() <= labels.items()
        assert (service.items() <= labels.items()) is (component == "api")


def test_certificates_are_where_addresses_can_name_them() -> None:
    for pod in pod_specs(render({"certificatesSecret": "authorities"})).values():
        [volume] = [v for v in pod["volumes"] if "secret" in v]
        assert volume["secret"] == {"secretName": "authorities"}
        mounts = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
        assert mounts[volume["name"]] == "/etc/usa/certificates"


def test_a_digest_is_what_runs_whatever_the_tag_says() -> None:
    image = {"repository": "registry.example/usa", "tag": "1", "digest": f"sha256:{'a' * 64}"}
    for pod in pod_specs(render({"image": image})).values():
        assert pod["containers"][0]["image"] == f"registry.example/usa@sha256:{'a' * 64}"


def test_labels_of_ones_own_select_nothing() -> None:
    labels = {"team": "stories"}
    for component in ("api", "worker"):
        deployment = render({"podLabels": labels})[f"Deployment/{NAME}-{component}"]["spec"]
        assert labels.items() <= deployment["template"]["metadata"]["labels"].items()
        assert not labels.keys() & deployment["selector"]["matchLabels"].keys()


def test_replicas_are_spread_over_nodes_and_zones() -> None:
    objects = render()
    for component in ("api", "worker"):
        spec = objects[f"Deployment/{NAME}-{component}"]["spec"]
        constraints = spec["template"]["spec"]["topologySpreadConstraints"]
        keys = {c["topologyKey"] for c in constraints}
        assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        for constraint in constraints:
            assert constraint["labelSelector"]["matchLabels"] == spec["selector"]["matchLabels"]
            assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_node_can_always_be_drained_one_pod_after_the_other(replicas: int) -> None:
    objects = render({"api": {"replicas": replicas}, "worker": {"replicas": replicas}})
    for component in ("api", "worker"):
        budget = objects[f"PodDisruptionBudget/{NAME}-{component}"]["spec"]
        deployment = objects[f"Deployment/{NAME}-{component}"]["spec"]
        assert budget["selector"] == deployment["selector"]
        assert budget["maxUnavailable"] == 1
        assert "minAvailable" not in budget


def test_proxies_neither_buffer_a_stream_nor_give_up_on_a_wait() -> None:
    ingress = render(VALUES["ha"])[f"Ingress/{NAME}"]
    annotations = ingress["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > LONGEST_WAIT
    hosts = ["stories.example.com", "stories.example.org"]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == hosts
    assert ingress["spec"]["tls"] == [{"secretName": "stories-certificate", "hosts": hosts}]
    for rule in ingress["spec"]["rules"]:
        [path] = rule["http"]["paths"]
        assert path["backend"]["service"] == {"name": NAME, "port": {"name": "http"}}


def test_both_kinds_of_pods_are_scraped_where_they_serve_metrics() -> None:
    objects = render(VALUES["ha"])
    monitor = objects[f"PodMonitor/{NAME}"]["spec"]
    [endpoint] = monitor["podMetricsEndpoints"]
    [expression] = monitor["selector"]["matchExpressions"]
    for component in ("api", "worker"):
        template = objects[f"Deployment/{NAME}-{component}"]["spec"]["template"]
        labels = template["metadata"]["labels"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        assert labels[expression["key"]] in expression["values"]
        ports = {p["name"]: p["containerPort"] for p in template["spec"]["containers"][0]["ports"]}
        assert (
            str(ports[endpoint["port"]]) == objects[f"ConfigMap/{NAME}"]["data"]["USA_METRICS_PORT"]
        )
    migration = objects[f"Job/{NAME}-migrate"]["spec"]["template"]["metadata"]["labels"]
    assert migration[expression["key"]] not in expression["values"]


def test_traces_go_where_the_values_say_and_their_headers_stay_secret() -> None:
    objects = render(VALUES["external-secrets"])
    data = objects[f"ConfigMap/{NAME}"]["data"]
    assert data["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://otlp.example.com"
    assert data["USA_TRACING"] == "1"
    for component in ("api", "worker"):
        headers = variables(pod_specs(objects)[component]["containers"][0])[
            "OTEL_EXPORTER_OTLP_HEADERS"
        ]
        assert headers["valueFrom"]["secretKeyRef"] == {"name": "stories", "key": "otlp-headers"}
    assert (
        not {"OTEL_EXPORTER_OTLP_ENDPOINT", "USA_TRACING"}
        & render()[f"ConfigMap/{NAME}"]["data"].keys()
    )


@EVERY_VALUES
def test_notes_say_how_to_begin(name: str) -> None:
    notes = next(t for path, t in render_texts(VALUES[name]).items() if path.endswith("NOTES.txt"))
    assert f"deploy/{NAME}-api" in notes
    assert "usa keys create --tenant acme --user alice" in notes
    assert "<no value>" not in notes
    # A role that sees no key can make none.
    owner = VALUES[name].get("secrets", {}).get("migrateDatabaseUrl")
    assert (owner is not None) is ("get secret" in notes)


def test_notes_warn_of_keys_in_the_clear() -> None:
    unencrypted = merged(VALUES["ha"], {"ingress": {"tlsSecretName": ""}})
    warned = [
        "in the clear" in "".join(render_texts(values).values())
        for values in (VALUES["ha"], unencrypted)
    ]
    assert warned == [False, True]
