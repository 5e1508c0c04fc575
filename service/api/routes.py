"""The whole URL table."""

from service.api import (
    dead_letters,
    docs,
    iterations,
    jobs,
    openapi,
    probes,
    queue,
    stream,
    usage,
    workflow,
)
from service.api.documents import JOBS_PATH
from service.api.limits import Limited
from service.api.routing import Route
from service.domain.api_keys import Scope

_READ = Scope.JOBS_READ
_WRITE = Scope.JOBS_WRITE
_USAGE = Scope.USAGE_READ
_ADMIN = Scope.ADMIN
_SUBMITS = Limited.SUBMIT
_READS = Limited.READ
_JOB = JOBS_PATH + "/{id}"
_ITERATIONS = "/api/v1/iterations"
_OPERATING = "/api/v1/admin"
_DEAD_LETTERS = _OPERATING + "/dead-letters"

ROUTES: tuple[Route, ...] = (
    Route("POST", JOBS_PATH, jobs.create_job, "create_job", _WRITE, _SUBMITS),
    Route("GET", JOBS_PATH, jobs.list_jobs, "list_jobs", _READ, _READS),
    Route("GET", _JOB, jobs.get_job, "get_job", _READ, _READS),
    Route("DELETE", _JOB, jobs.cancel_job, "cancel_job", _WRITE),
    Route("POST", _JOB + "/redrive", dead_letters.redrive_job, "redrive_job", _WRITE, _SUBMITS),
    Route("GET", _JOB + "/stream", stream.stream_job, "stream_job", _READ, _READS),
    Route("GET", _ITERATIONS, iterations.list_iterations, "list_iterations", _READ, _READS),
    Route("GET", _ITERATIONS + "/{id}", iterations.get_iteration, "get_iteration", _READ, _READS),
    Route(
        "GET",
        "/api/v1/workflow/preview",
        workflow.preview_workflow,
        "preview_workflow",
        _READ,
        _READS,
    ),
    Route("GET", "/api/v1/usage", usage.get_usage, "get_usage", _USAGE, _READS),
    Route("GET", "/api/v1/usage/daily", usage.list_daily_usage, "list_daily_usage", _USAGE, _READS),
    Route("GET", "/api/v1/usage/quota", usage.get_quota, "get_quota", _USAGE, _READS),
    Route("GET", _OPERATING + "/queue", queue.get_queue, "get_queue", _ADMIN, _READS),
    Route("POST", _OPERATING + "/pause", queue.pause_queue, "pause_queue", _ADMIN),
    Route("POST", _OPERATING + "/resume", queue.resume_queue, "resume_queue", _ADMIN),
    Route(
        "GET", _DEAD_LETTERS, dead_letters.list_dead_letters, "list_dead_letters", _ADMIN, _READS
    ),
    Route(
        "POST",
        _DEAD_LETTERS + "/redrive",
        dead_letters.redrive_dead_letters,
        "redrive_dead_letters",
        _ADMIN,
    ),
    Route("GET", "/healthz", probes.answer_healthz, "get_health"),
    Route("GET", "/readyz", probes.answer_readyz, "get_readiness"),
    Route("GET", "/version", probes.answer_version, "get_version"),
    Route("GET", "/openapi.json", openapi.answer_openapi, "get_openapi"),
    # Aliases and the entry are for machines' habits and for people, not for generated clients.
    Route("GET", "/health", probes.answer_healthz),
    Route("GET", "/ready", probes.answer_readyz),
    Route("GET", "/docs", docs.answer_docs),
    Route("GET", "/", probes.answer_entry),
)

METRICS = Route("GET", "/metrics", probes.answer_metrics)
