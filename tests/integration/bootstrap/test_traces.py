"""A process exports traces where its settings ask for it, and else knows nothing of them."""

import subprocess
import sys

import pytest

from service.bootstrap import Running, running_api
from service.bootstrap.extras import MissingExtra
from tests.fixtures.collector import Collector
from tests.fixtures.deployment import Deployment
from tests.fixtures.processes import ROOT

NOTHING_IMPORTED = """
import sys
import service.bootstrap, service.cli.app, service.api.app, service.worker.pool
# Redis' library imports what OpenTelemetry has for metrics, where that is installed.
ours = ("opentelemetry.sdk.trace.", "opentelemetry.exporter", "service.telemetry.otel")
print(*(name for name in sys.modules if name.startswith(ours)))
"""


async def test_without_the_extra_it_says_what_to_install(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "service.telemetry.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    settings = deployment.settings.model_copy(update={"tracing": True})
    with pytest.raises(MissingExtra, match=r"USA_TRACING .* 'user-story-service\[otel\]'"):
        async with running_api(settings):
            raise AssertionError("it has started")


def test_where_it_is_off_nothing_is_imported_for_it() -> None:
    command = [sys.executable, "-c", NOTHING_IMPORTED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


async def test_a_stream_is_not_traced_and_other_requests_are(
    deployment: Deployment, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in collector.environment().items():
        monkeypatch.setenv(name, value)
    settings = deployment.settings.model_copy(update={"tracing": True})
    async with running_api(settings) as running:
        for path in ("/api/v1/jobs?limit=0", f"/api/v1/jobs/{'0' * 8}/stream", "/healthz", "/no"):
            await ask(deployment, running, path)

    [seen] = collector.spans
    assert (seen.name, seen.has_failed) == ("GET /api/v1/jobs", False)
    assert seen.attributes["http.response.status_code"] == 400


async def ask(deployment: Deployment, running: Running, path: str) -> None:
    """Send a request, whatever its answer."""
    url = f"{running.address}{path}"
    async with deployment.session.get(url, headers=deployment.sending()) as response:
        await response.read()
