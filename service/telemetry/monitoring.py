"""The port that orchestrators and Prometheus ask: /healthz, /readyz, /metrics."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import orjson
from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from service.domain.errors import Unavailable
from service.ports.health import Probe
from service.telemetry.logs import get_log
from service.telemetry.metrics import REGISTRY

_log = get_log(__name__)

# Less than what orchestrators usually wait for a probe.
_PROBE_SECONDS: Final = 0.8


async def check(probe: Probe) -> bool:
    """Whether a dependency answers in time."""
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            await probe()
    except (Unavailable, TimeoutError):
        return False
    except Exception as error:  # noqa: BLE001 - it does not answer, whatever the reason
        _log.error("probe_failed", error=repr(error))
        return False
    return True


def create_monitoring_app(
    needed: Mapping[str, Probe], helpful: Mapping[str, Probe], is_draining: Callable[[], bool]
) -> web.Application:
    """Build the application; without a `needed` dependency, or while draining, it is not ready."""

    async def answer_healthz(_: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def answer_readyz(_: web.Request) -> web.Response:
        names = [*needed, *helpful]
        probes = [*needed.values(), *helpful.values()]
        answers = dict(zip(names, await asyncio.gather(*map(check, probes)), strict=True))
        checks = {name: "ok" if answer else "unavailable" for name, answer in answers.items()}
        if is_draining():
            return _json({"status": "draining", "checks": checks}, 503)
        if not all(answers[name] for name in needed):
            return _json({"status": "unavailable", "checks": checks}, 503)
        return _json({"status": "ok" if all(answers.values()) else "degraded", "checks": checks})

    app = web.Application()
    app.router.add_get("/healthz", answer_healthz)
    app.router.add_get("/readyz", answer_readyz)
    app.router.add_get("/metrics", make_aiohttp_handler(REGISTRY))
    return app


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), status=status, content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )  # fmt: skip
