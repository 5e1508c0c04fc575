"""The whole URL table."""

from service.api import iterations, jobs, openapi, page, probes, stream
from service.api.routing import Route
from service.domain.api_keys import Scope

_READ = Scope.JOBS_READ
_WRITE = Scope.JOBS_WRITE
_JOBS = "/api/v1/jobs"
_ITERATIONS = "/api/v1/iterations"

ROUTES: tuple[Route, ...] = (
    Route("POST", _JOBS, jobs.create_job, "create_job", _WRITE),
    Route("GET", _JOBS, jobs.list_jobs, "list_jobs", _READ),
    Route("GET", _JOBS + "/{id}", jobs.get_job, "get_job", _READ),
    Route("DELETE", _JOBS + "/{id}", jobs.cancel_job, "cancel_job", _WRITE),
    Route("GET", _JOBS + "/{id}/stream", stream.stream_job, "stream_job", _READ),
    Route("GET", _ITERATIONS, iterations.list_iterations, "list_iterations", _READ),
    Route("GET", _ITERATIONS + "/{id}", iterations.get_iteration, "get_iteration", _READ),
    Route("GET", "/healthz", probes.answer_healthz, "get_health"),
    Route("GET", "/readyz", probes.answer_readyz, "get_readiness"),
    Route("GET", "/version", probes.answer_version, "get_version"),
    Route("GET", "/openapi.json", openapi.answer_openapi, "get_openapi"),
    # Aliases and the page are for machines' habits and for people, not for generated clients.
    Route("GET", "/health", probes.answer_healthz),
    Route("GET", "/ready", probes.answer_readyz),
    Route("GET", "/", page.show_page),
    Route("GET", "/assets/{name}", page.send_asset),
)

METRICS = Route("GET", "/metrics", probes.answer_metrics)
