"""Every metric is ours, explained, bounded in its labels, moved by some code, and documented."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from service.telemetry import metrics
from tests.architecture.sources import modules, names_in

INSTRUMENTS: dict[str, Any] = {
    name: value for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)
}
# Labels whose values the code chooses; an id or a user in one of them would grow without end.
LABELS = {
    "code",
    "ending",
    "iteration",
    "kind",
    "limit",
    "loop",
    "method",
    "model",
    "pool",
    "reason",
    "repair",
    "result",
    "route",
    "server",
    "source",
    "state",
    "status",
    "stream",
    "verdict",
    "what",
    "why",
    "write",
}

by_name = pytest.mark.parametrize("name", INSTRUMENTS)


@by_name
def test_a_metric_has_our_prefix_and_a_sentence_that_explains_it(name: str) -> None:
    [family] = INSTRUMENTS[name].describe()
    assert family.name.startswith("usa_")
    assert family.documentation[0].isupper()
    assert family.documentation.endswith(".")


@by_name
def test_a_metric_has_only_labels_with_few_values(name: str) -> None:
    assert set(INSTRUMENTS[name]._labelnames) <= LABELS


@by_name
def test_a_metric_is_moved_by_some_code(name: str) -> None:
    movers = [
        path
        for path, tree in modules().items()
        if path != "service/telemetry/metrics.py" and name in set(names_in(tree))
    ]
    assert movers != []


def metrics_table() -> str:
    """What deploy/README.md says about the metrics."""
    lines = ["| Metric | Kind | Labels | Meaning |", "|---|---|---|---|"]
    for instrument in INSTRUMENTS.values():
        [family] = instrument.describe()
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = ", ".join(f"`{label}`" for label in instrument._labelnames)
        cells = (f"`{family.name}{suffix}`", family.type, labels, family.documentation)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_table_of_metrics_is_that_of_the_catalogue() -> None:
    readme = Path(__file__).parents[2] / "deploy" / "README.md"
    assert metrics_table() in readme.read_text(), f"it should be:\n{metrics_table()}"


def test_every_metric_is_registered_where_it_is_served() -> None:
    registered = {family.name for family in metrics.REGISTRY.collect()}
    assert {i.describe()[0].name for i in INSTRUMENTS.values()} <= registered != set()
