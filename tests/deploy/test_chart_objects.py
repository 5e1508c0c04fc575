"""Every set of values gives objects that Kubernetes, KEDA and Prometheus' operator accept."""

import json
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest

from tests.deploy.chart import CHART, VALUES, Document, helm, merged, render, yaml
from tests.fixtures.tools import needed_module, needed_packages, needed_program

kubernetes = needed_module("kubernetes_validate")

OLD, NEW = "1.29", "1.37"
EVERY_VALUES = pytest.mark.parametrize("name", VALUES)
EVERY_VERSION = pytest.mark.parametrize("version", [OLD, NEW])
# Which of npm's models knows the kinds of an operator.
MODELS = {
    "keda.sh": "keda",
    "monitoring.coreos.com": "prometheus-operator",
    "external-secrets.io": "external-secrets",
}
EXAMPLE = CHART.parents[1] / "deploy" / "external-secrets.yaml"

ALWAYS = {"ConfigMap", "Deployment", "Service", "ServiceAccount"}
USUALLY = ALWAYS | {"Job", "NetworkPolicy", "PodDisruptionBudget"}
KINDS = {
    "default": USUALLY,
    "minimal": ALWAYS,
    "ha": USUALLY | {"HorizontalPodAutoscaler", "Ingress", "PodMonitor", "PrometheusRule"},
    "keda": USUALLY | {"ScaledObject", "TriggerAuthentication", "PodMonitor"},
    "no-keda": USUALLY | {"HorizontalPodAutoscaler", "PodMonitor"},
    "external-secrets": USUALLY,
}


def group_of(document: Document) -> str:
    group: str = document["apiVersion"].rpartition("/")[0]
    return group


@EVERY_VERSION
@EVERY_VALUES
def test_helm_finds_nothing_to_complain_about(name: str, version: str) -> None:
    report = helm.lint(CHART, VALUES[name], strict=True, kube_version=version)
    worse_than_advice = [m for m in report["messages"] if m["severity"] > 1]
    assert (report["errors"], worse_than_advice) == ([], [])


@EVERY_VALUES
def test_there_is_what_was_asked_for_and_nothing_else(name: str) -> None:
    assert {key.partition("/")[0] for key in render(VALUES[name])} == KINDS[name]


@EVERY_VERSION
@EVERY_VALUES
def test_kubernetes_knows_every_field_of_every_object(name: str, version: str) -> None:
    own = [d for d in render(VALUES[name]).values() if group_of(d) not in MODELS]
    assert len(own) >= len(ALWAYS)
    with warnings.catch_warnings():
        # A kind that is not known is only warned of.
        warnings.simplefilter("error")
        for document in own:
            kubernetes.validate(document, version, strict=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models of the operators' kinds."""
    folder = tmp_path_factory.mktemp("models") / "models"
    ignored = shutil.ignore_patterns("node_modules", "made")
    shutil.copytree(Path(__file__).parent / "models", folder, ignore=ignored)
    needed_packages(folder)
    return folder


def complaints(folder: Path, documents: list[Document]) -> str:
    """Return what the models say: their types of unknown fields, they themselves of values."""
    lines: dict[str, None] = {}
    checks: list[str] = []
    for document in documents:
        kind, version = document["kind"], document["apiVersion"]
        module = f"@kubernetes-models/{MODELS[group_of(document)]}/{version}/{kind}"
        lines[f'import {{ {kind}, type I{kind} }} from "{module}";'] = None
        checks.append(
            f"{{ const it: I{kind} = {json.dumps(document)}; new {kind}(it).validate(); }}"
        )
    (folder / "documents.ts").write_text("\n".join([*lines, *checks]))
    for command in ([needed_program("npx"), "tsc"], [needed_program("node"), "made/documents.js"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stdout + done.stderr
    return ""


def test_the_operators_know_every_field_of_theirs(models: Path) -> None:
    rendered = [d for values in VALUES.values() for d in render(values).values()]
    documents = [d for d in rendered if group_of(d) in MODELS]
    documents += yaml.safe_load_all(EXAMPLE.read_text())
    assert {group_of(document) for document in documents} == MODELS.keys()

    assert complaints(models, documents) == ""


def test_the_models_do_refuse_what_an_operator_would(models: Path) -> None:
    [scaled] = [d for d in render(VALUES["keda"]).values() if d["kind"] == "ScaledObject"]
    number = [{"type": "prometheus", "metadata": {"threshold": 3}}]
    wrong = [
        {**scaled, "spec": {**scaled["spec"], **field}}
        for field in ({"cooldown": 300}, {"cooldownPeriod": "300"}, {"triggers": number})
    ]
    complaint = complaints(models, wrong)
    assert complaint.count(" error ") == len(wrong)
    assert "'\"cooldown\"' does not exist in type" in complaint


def test_the_example_of_an_operator_makes_the_secrets_that_its_values_name() -> None:
    made = {
        (document["spec"]["target"]["name"], entry["secretKey"])
        for document in yaml.safe_load_all(EXAMPLE.read_text())
        for entry in document["spec"]["data"]
    }
    named = {(s["name"], s["key"]) for s in VALUES["external-secrets"]["secrets"].values()}
    assert made == named


def test_rules_and_dashboard_are_the_files_that_are_tested_elsewhere() -> None:
    objects = render(VALUES["ha"])
    [rules] = [d for d in objects.values() if d["kind"] == "PrometheusRule"]
    assert rules["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    assert rules["spec"]["groups"]
    [dashboard] = objects["ConfigMap/usa-user-story-service-dashboard"]["data"].values()
    assert json.loads(dashboard) == json.loads((CHART / "files" / "dashboard.json").read_text())


def test_an_alert_leads_to_the_runbook_wherever_that_is_kept() -> None:
    page = "https://wiki.example/runbook"
    values = merged(VALUES["ha"], {"monitoring": {"rules": {"runbook": page}}})
    [rules] = [d for d in render(values).values() if d["kind"] == "PrometheusRule"]
    alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    links = [alert["annotations"]["runbook_url"] for alert in alerts]
    assert links == [f"{page}#{alert['alert'].lower()}" for alert in alerts] != []
