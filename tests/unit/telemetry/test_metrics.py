"""Metrics as Prometheus reads them."""

import pytest
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry.metrics import REGISTRY

FAMILIES = pytest.mark.parametrize(
    "family", list(REGISTRY.collect()), ids=lambda family: family.name
)


@FAMILIES
def test_units_are_base_units_and_part_of_the_name(family: Metric) -> None:
    assert not family.name.endswith(("_ms", "_milliseconds", "_minutes", "_count", "_total"))
    if family.type == "histogram":
        assert family.name.endswith("_seconds")


def test_the_registry_is_readable_by_prometheus() -> None:
    text = generate_latest(REGISTRY).decode()
    names = [family.name for family in text_string_to_metric_families(text)]
    assert len(names) == len(set(names))
    assert {"usa_jobs_accepted", "usa_loop_failures", "usa_http_request_seconds"} <= set(names)


def test_a_counter_is_one_series() -> None:
    samples = {sample.name for family in REGISTRY.collect() for sample in family.samples}
    assert "usa_jobs_accepted_total" in samples
    assert not {name for name in samples if name.endswith("_created")}
