"""Which requests are put on record, and what is said about each."""

from typing import Final
from uuid import UUID

from aiohttp import web

from service.api.auth import PRINCIPAL
from service.api.parameters import read_job_id
from service.domain.errors import NotFound
from service.telemetry.audit import Outcome, audit
from service.telemetry.metrics import REFUSALS

# The operation that a request asks for, once its route is known.
OPERATION: Final = web.RequestKey("operation", str)
# The jobs that it has made or changed, where its path does not say so.
JOBS_CHANGED: Final = web.RequestKey("jobs_changed", tuple[UUID, ...])

_READING: Final = frozenset({"GET", "HEAD"})
_REFUSALS: Final = frozenset({401, 403, 429})
_FIRST_UNKNOWN: Final = 499


def record_decision(request: web.Request, status: int, code: str | None) -> None:
    """Put a request on record that changes something, or that was refused for who sent it."""
    if status in _REFUSALS and code is not None:
        REFUSALS.labels(code=code).inc()
    operation = request.get(OPERATION)
    if operation is None or (request.method in _READING and status not in _REFUSALS):
        return
    principal = request.get(PRINCIPAL)
    audit(
        operation,
        _outcome(status),
        caller=principal.caller if principal else None,
        owner=principal.owner if principal else None,
        status=status,
        code=code,
        **_jobs(request),
    )


def _outcome(status: int) -> Outcome:
    if status >= _FIRST_UNKNOWN:
        return Outcome.FAILED
    return Outcome.DENIED if status >= web.HTTPBadRequest.status_code else Outcome.ALLOWED


def _jobs(request: web.Request) -> dict[str, object]:
    changed = request.get(JOBS_CHANGED)
    if changed is None and "id" in request.match_info:
        try:
            changed = (read_job_id(request),)
        except NotFound:
            return {}
    match changed:
        case None:
            return {}
        case [job_id]:
            return {"job": str(job_id)}
        case several:
            return {"jobs": [str(job_id) for job_id in several]}
