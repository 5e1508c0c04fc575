"""What machines ask: alive, ready, which version, how much of everything."""

from asyncio import gather
from typing import Final

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from service.api.dependencies import DEPENDENCIES
from service.api.documents import JOBS_PATH, Entry, Health, Readiness, Version
from service.telemetry.metrics import REGISTRY
from service.telemetry.monitoring import check

_NAME: Final = "user-story-service"
_LINKS = {"jobs": JOBS_PATH, "openapi": "/openapi.json", "docs": "/docs", "ready": "/readyz"}
_OK: Final = "ok"
_AWAY: Final = "unavailable"

answer_metrics = make_aiohttp_handler(REGISTRY)


async def answer_healthz(request: web.Request) -> web.StreamResponse:  # noqa: ARG001 - depends on nothing
    """Say that the process answers; a dependency that is away must not restart it."""
    return Health(status=_OK).respond()


async def answer_readyz(request: web.Request) -> web.StreamResponse:
    """Say whether requests can be served: not without Postgres, degraded without Redis."""
    to = request.config_dict[DEPENDENCIES]
    postgres, redis = await gather(check(to.probe_postgres), check(to.probe_redis))
    checks = {"postgres": _OK if postgres else _AWAY, "redis": _OK if redis else _AWAY}
    if to.is_leaving() or not postgres:
        readiness = Readiness(status="draining" if to.is_leaving() else _AWAY, checks=checks)
        return readiness.respond(status=503, headers={"Retry-After": "2"})
    return Readiness(status=_OK if redis else "degraded", checks=checks).respond()


async def answer_version(request: web.Request) -> web.StreamResponse:
    """Say what this is."""
    to = request.config_dict[DEPENDENCIES]
    return Version(name=_NAME, version=to.version, offline=to.offline).respond()


async def answer_entry(request: web.Request) -> web.StreamResponse:
    """Say what answers here, to whoever opens the address."""
    version = request.config_dict[DEPENDENCIES].version
    return Entry(name=_NAME, version=version, links=_LINKS).respond()
