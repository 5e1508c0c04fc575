"""The compose file says what it must."""

from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.fixtures.tools import needed_module

yaml = needed_module("yaml")

FILE = Path(__file__).parents[2] / "deploy" / "compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services of the file, with what they share merged in."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
    return found


def test_it_runs_an_api_two_workers_a_migration_their_servers_and_what_watches_them(
    services: dict[str, dict[str, Any]],
) -> None:
    servers = {"valkey", "postgres", "prometheus", "grafana"}
    assert services.keys() == {"migrate", "api", "worker"} | servers
    assert services["worker"]["deploy"]["replicas"] == 2
    assert [services[name]["command"] for name in ("migrate", "api", "worker")] == [
        ["migrate"],
        ["api"],
        ["worker"],
    ]


def test_what_serves_says_whether_it_is_healthy_and_is_waited_for(
    services: dict[str, dict[str, Any]],
) -> None:
    assert all("healthcheck" in services[name] for name in services.keys() - {"migrate"})
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("api", "worker"):
        assert services[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "valkey": {"condition": "service_healthy"},
        }


def test_a_worker_gets_longer_to_stop_than_it_takes(services: dict[str, dict[str, Any]]) -> None:
    worker = services["worker"]
    grace = float(worker["environment"]["USA_SHUTDOWN_GRACE"])
    assert grace + 10 < float(worker["stop_grace_period"].removesuffix("s"))


def test_only_workers_get_the_key_of_claude_and_it_is_not_in_the_file(
    services: dict[str, dict[str, Any]],
) -> None:
    holders = {n for n, s in services.items() if "ANTHROPIC_API_KEY" in s.get("environment", {})}
    assert holders == {"worker"}
    assert services["worker"]["environment"]["ANTHROPIC_API_KEY"] is None


def test_what_people_look_at_is_reachable_and_only_from_this_machine(
    services: dict[str, dict[str, Any]],
) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports.keys() == {"api", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for [port] in ports.values())


def test_what_it_mounts_is_in_the_repository(services: dict[str, dict[str, Any]]) -> None:
    mounts = [each for name in ("prometheus", "grafana") for each in services[name]["volumes"]]
    files = [mount.split(":")[0] for mount in mounts if mount.startswith(".")]
    assert len(files) == 5
    assert [file for file in files if not (FILE.parent / file).is_file()] == []


def test_prometheus_finds_every_container_of_what_it_scrapes(
    services: dict[str, dict[str, Any]],
) -> None:
    config = yaml.safe_load((FILE.parent / "prometheus" / "prometheus.yml").read_text())
    found = [config for job in config["scrape_configs"] for config in job["dns_sd_configs"]]
    assert {name for each in found for name in each["names"]} == {"api", "worker"}
    assert {each["port"] for each in found} == {Settings().metrics_port}
    assert all(
        "USA_METRICS_PORT" not in services[name]["environment"] for name in ("api", "worker")
    )


def test_grafana_finds_prometheus_and_our_dashboard(services: dict[str, dict[str, Any]]) -> None:
    [source] = yaml.safe_load((FILE.parent / "grafana" / "datasources.yaml").read_text())[
        "datasources"
    ]
    [provider] = yaml.safe_load((FILE.parent / "grafana" / "dashboards.yaml").read_text())[
        "providers"
    ]
    assert source["url"] == "http://prometheus:9090"
    folder = provider["options"]["path"]
    assert any(f":{folder}/" in mount for mount in services["grafana"]["volumes"])


def test_our_containers_cannot_write_nor_gain_rights(services: dict[str, dict[str, Any]]) -> None:
    for name in ("migrate", "api", "worker"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]


def test_every_variable_it_sets_is_a_setting(services: dict[str, dict[str, Any]]) -> None:
    known = {f"USA_{name.upper()}" for name in Settings.model_fields}
    given = {v for n in ("migrate", "api", "worker") for v in services[n]["environment"]}
    assert given - known == {"DATABASE_URL", "REDIS_URL", "ANTHROPIC_API_KEY"}
