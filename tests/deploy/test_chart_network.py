"""Network policies: everything is denied but what each kind of pod needs."""

from typing import Any
from urllib.parse import urlsplit

import pytest

from service.settings import Settings
from tests.deploy.chart import NAME, VALUES, Document, merged, pod_specs, render

HOOKS = "helm.sh/hook"
DNS = {("UDP", 53), ("TCP", 53)}
POSTGRES, REDIS = ("TCP", 5432), ("TCP", 6379)
CLAUDE = ("TCP", 443)


def policies(objects: dict[str, Document]) -> list[Document]:
    return [d for d in objects.values() if d["kind"] == "NetworkPolicy"]


def allowed(objects: dict[str, Document], component: str, direction: str) -> list[Any]:
    """Return the rules for a kind of pod, from every policy that selects it."""
    labels = labels_of(objects)[component]
    return [
        rule
        for policy in policies(objects)
        if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        for rule in policy["spec"].get(direction, [])
    ]


def labels_of(objects: dict[str, Document]) -> dict[str, dict[str, str]]:
    templates = [d["spec"]["template"] for d in objects.values() if "template" in d.get("spec", {})]
    labels = [template["metadata"]["labels"] for template in templates]
    return {each["app.kubernetes.io/component"]: each for each in labels}


def ports(rules: list[Any]) -> set[tuple[str, Any]]:
    return {(port["protocol"], port["port"]) for rule in rules for port in rule["ports"]}


def test_every_pod_is_denied_what_no_rule_allows() -> None:
    objects = render()
    denied = objects[f"NetworkPolicy/{NAME}"]["spec"]
    assert denied["policyTypes"] == ["Ingress", "Egress"]
    assert not denied.keys() & {"ingress", "egress"}
    for labels in labels_of(objects).values():
        assert denied["podSelector"]["matchLabels"].items() <= labels.items()
    # A rule without ports would allow them all.
    for policy in policies(objects):
        for direction in ("ingress", "egress"):
            assert all(rule["ports"] for rule in policy["spec"].get(direction, []))


@pytest.mark.parametrize(
    ("config", "reached"),
    [
        ({}, {"api": set(), "worker": {CLAUDE}}),
        ({"USA_MODEL": "offline"}, {"api": set(), "worker": set()}),
        (
            {"USA_ANTHROPIC_BASE_URL": "http://gateway.models:8080/claude"},
            {"api": set(), "worker": {("TCP", 8080)}},
        ),
        (
            {"USA_OIDC_ISSUER": "https://login.example:8443", "USA_OIDC_AUDIENCE": "stories"},
            {"api": {("TCP", 8443)}, "worker": {CLAUDE}},
        ),
    ],
)
def test_each_kind_of_pod_reaches_what_it_needs_and_nothing_else(
    config: dict[str, str], reached: dict[str, set[tuple[str, int]]]
) -> None:
    objects = render({"config": config})
    for component, more in reached.items():
        common = DNS | {POSTGRES, REDIS}
        assert ports(allowed(objects, component, "egress")) == common | more
    assert ports(allowed(objects, "migrate", "egress")) == DNS | {POSTGRES}


def test_the_port_of_claude_is_that_of_the_services_default() -> None:
    address = urlsplit(Settings.model_fields["anthropic_base_url"].default)
    assert (address.scheme, address.port) == ("https", None)
    assert CLAUDE in ports(allowed(render(), "worker", "egress"))


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://collector.observability:4318", 4318),
        ("https://otlp.example.com/v1", 443),
        ("http://collector", 80),
    ],
)
def test_traces_get_out_at_the_port_of_their_endpoint(endpoint: str, port: int) -> None:
    objects = render({"config": {"USA_MODEL": "offline"}, "tracing": {"endpoint": endpoint}})
    for component in ("api", "worker"):
        added = ports(allowed(objects, component, "egress")) - DNS - {POSTGRES, REDIS}
        assert added == {("TCP", port)}


def test_the_api_is_reached_from_anywhere_and_metrics_by_those_who_scrape() -> None:
    objects = render()
    [http, metrics] = allowed(objects, "api", "ingress")
    assert http == {"ports": [{"protocol": "TCP", "port": "http"}]}
    assert ports([metrics]) == {("TCP", "metrics")}
    monitoring = {"kubernetes.io/metadata.name": "monitoring"}
    assert metrics["from"] == [{"namespaceSelector": {"matchLabels": monitoring}}]
    assert allowed(objects, "worker", "ingress") == [metrics]
    assert allowed(objects, "migrate", "ingress") == []
    for component in ("api", "worker"):
        named = {p["name"] for p in pod_specs(objects)[component]["containers"][0]["ports"]}
        assert {p for _, p in ports(allowed(objects, component, "ingress"))} <= named


def test_every_rule_can_be_narrowed_to_whom_it_is_for() -> None:
    objects = render(VALUES["ha"])
    for component in ("api", "worker"):
        for direction, whom in (("ingress", "from"), ("egress", "to")):
            assert all(rule.get(whom) for rule in allowed(objects, component, direction))


def test_the_migration_may_reach_postgres_before_anything_else_is_installed() -> None:
    objects = render()
    policy = objects[f"NetworkPolicy/{NAME}-migrate"]
    job = objects[f"Job/{NAME}-migrate"]
    of_policy, of_job = policy["metadata"]["annotations"], job["metadata"]["annotations"]
    assert of_policy[HOOKS] == of_job[HOOKS]
    assert int(of_policy[f"{HOOKS}-weight"]) < int(of_job.get(f"{HOOKS}-weight", 0))
    assert (
        policy["spec"]["podSelector"]["matchLabels"].items()
        <= labels_of(objects)["migrate"].items()
    )
    without = render({"migrations": {"enabled": False}})
    assert f"NetworkPolicy/{NAME}-migrate" not in without


def test_policies_can_be_left_to_the_cluster() -> None:
    assert policies(render(merged(VALUES["ha"], {"networkPolicy": {"enabled": False}}))) == []
