"""Alert rules, their tests and the dashboard, as Prometheus' own tool judges them."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from service.telemetry.metrics import REGISTRY
from tests.fixtures.observability import (
    ALERTS,
    DASHBOARD,
    PROMETHEUS,
    ROOT,
    metrics_in,
    panels,
    queries,
)
from tests.fixtures.tools import needed_module, needed_program

yaml = needed_module("yaml")

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
by_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


def promtool(*arguments: str | Path, given: bytes = b"") -> str:
    """Run it, and return what it says; an assertion fails with that if it is not content."""
    done = subprocess.run(
        [needed_program("promtool"), *map(str, arguments)],
        input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    said = done.stdout.decode()
    assert done.returncode == 0, said
    return said


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """The folder of Prometheus as the compose file makes it, and the tests of the rules."""
    for file in (*PROMETHEUS.iterdir(), ALERTS):
        shutil.copy(file, tmp_path)
    return tmp_path


def test_the_configuration_of_the_compose_file_is_valid(mounted: Path) -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "config", mounted / "prometheus.yml")


def test_the_rules_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint-fatal", ALERTS)


def test_the_rules_fire_when_they_must_and_only_then(mounted: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", mounted / "alerts_test.yaml")


def test_the_metrics_are_named_as_prometheus_advises() -> None:
    assert promtool("check", "metrics", given=generate_latest(REGISTRY)) == ""


def alerts_seen_to_fire() -> set[str]:
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yaml").read_text())["tests"]
    return {
        each["alertname"]
        for test in tests
        for each in test.get("alert_rule_test", ())
        if each["exp_alerts"]
    }


def test_every_rule_is_seen_to_fire() -> None:
    assert alerts_seen_to_fire() == {rule["alert"] for rule in RULES} != set()


@by_rule
def test_a_rule_says_how_bad_it_is_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"deploy/RUNBOOK.md#{rule['alert'].lower()}"


def test_the_runbook_tells_of_every_alert_and_of_no_other() -> None:
    runbook = (ROOT / "deploy" / "RUNBOOK.md").read_text()
    _, *sections = re.split(r"^## ", runbook, flags=re.MULTILINE)
    told = {section.partition("\n")[0]: section for section in sections}
    assert list(told) == [rule["alert"] for rule in RULES]
    for section in told.values():
        parts = re.findall(r"^\*\*(.*?)\.\*\* \S", section, re.MULTILINE)
        assert parts == ["Meaning", "First look", "Fix"]


def known_metrics() -> set[str]:
    names = set()
    for family in REGISTRY.collect():
        suffixes = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_count", "_sum"),
            "info": ("_info",),
        }
        names |= {family.name + suffix for suffix in suffixes.get(family.type, ("",))}
    return names


def test_rules_and_panels_read_metrics_that_exist() -> None:
    read = {name for rule in RULES for name in metrics_in(rule["expr"])}
    read |= {name for query in queries() for name in metrics_in(query.text)}
    assert read - known_metrics() == set()
    assert len(read) > 40


def test_the_runbook_names_metrics_and_panels_that_exist() -> None:
    runbook = (ROOT / "deploy" / "RUNBOOK.md").read_text()
    assert {n for n in metrics_in(runbook) if not n.endswith("_")} - known_metrics() == set()
    fixes = re.findall(r'"([A-Z][a-z][\w ]+)"', runbook)
    assert set(fixes) - {panel["title"] for panel in panels()} == {"User Story Service"}


def test_the_queries_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    rules = [{"record": f"query:{n}", "expr": each.text} for n, each in enumerate(queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


def test_panels_are_explained_and_have_a_place_of_their_own() -> None:
    every = DASHBOARD["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    squares = [
        (x, y)
        for place in (panel["gridPos"] for panel in every)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(squares)) == len(squares)
    assert all(x < 24 for x, _ in squares)
    for panel in panels():
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"


def test_every_alert_that_a_panel_names_exists() -> None:
    named = {name for panel in panels() for name in re.findall(r"Usa\w+", panel["description"])}
    assert named - {rule["alert"] for rule in RULES} == set()
    assert len(named) > 4
