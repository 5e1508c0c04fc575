"""Submitting, reading, listing and cancelling jobs."""

from contextlib import AbstractContextManager
from uuid import UUID

from aiohttp import web

from service.api.audit import JOBS_CHANGED
from service.api.auth import PRINCIPAL
from service.api.cursors import encode_cursor
from service.api.dependencies import DEPENDENCIES
from service.api.documents import (
    AcceptedJob,
    DeletedJob,
    FinishedJob,
    JobDocument,
    JobLinks,
    JobPage,
    JobReceipt,
    JobSummary,
)
from service.api.endings import ENDINGS
from service.api.followups import announce_cancellation, ring
from service.api.negotiation import preference
from service.api.parameters import (
    read_cursor,
    read_job_id,
    read_limit,
    read_purge,
    read_status,
    read_wait,
)
from service.api.places import WAITS
from service.api.problems import Problem
from service.api.purging import purge_job
from service.api.submission import read_new_job
from service.domain.errors import NotFound, Unavailable
from service.domain.job import Job
from service.telemetry.metrics import JOBS_ACCEPTED

_POLL_AFTER = {"Retry-After": "2"}


async def create_job(request: web.Request) -> web.StreamResponse:
    """Accept a job; with `?wait=` answer with it finished if it ends in time."""
    wait = read_wait(request)
    if not wait:
        return await _submit(request, wait)
    # Taken before the job is accepted, so that a refusal means that there is none.
    with _place_to_wait(request):
        return await _submit(request, wait)


async def _submit(request: web.Request, wait: float) -> web.StreamResponse:
    to = request.config_dict[DEPENDENCIES]
    accepted = await to.jobs.accept(await read_new_job(request))
    job = accepted.job
    request[JOBS_CHANGED] = (job.id,)
    if accepted.is_new:
        JOBS_ACCEPTED.inc()
    if accepted.ring_now:
        # The job is committed, so nobody waits for Redis.
        to.background.spawn(f"ring:{job.id}", ring(to, job))
    links = JobLinks.of(job.id)
    headers = {"Location": links.self}
    stands = await _wait_for(request, job, wait) if wait else job
    if isinstance(stands, JobDocument):
        return FinishedJob(job=stands, links=links).respond(headers=headers)
    # What was ahead of it a while ago is no place.
    position = accepted.queue_position if stands is job else None
    receipt = AcceptedJob(job=JobReceipt.of(stands), queue_position=position, links=links)
    return receipt.respond(status=202, headers={**headers, **_POLL_AFTER})


def _place_to_wait(request: web.Request) -> AbstractContextManager[None]:
    principal = request[PRINCIPAL]
    return request.config_dict[WAITS].taken_by(principal.owner, principal.tier.open_waits)


async def _wait_for(request: web.Request, job: Job, seconds: float) -> JobDocument | Job:
    """Return how a job just accepted ended in time, or where it stands.

    Whatever fails now, it stays accepted, and is returned as it was.
    """
    await request.config_dict[ENDINGS].wait(job.id, seconds)
    try:
        now = await _find(request, job.id)
        return await _document(request, now) if now.status.is_terminal else now
    except (Unavailable, NotFound):
        return job


async def list_jobs(request: web.Request) -> web.StreamResponse:
    """Answer with a page of the caller's jobs, newest first."""
    principal = request[PRINCIPAL]
    page = await request.config_dict[DEPENDENCIES].jobs.list_owned(
        principal.owner.tenant_id,
        principal.visible_user,
        read_status(request),
        read_cursor(request),
        read_limit(request),
    )
    next_cursor = encode_cursor(*page.next_cursor) if page.next_cursor else None
    jobs = [JobSummary.of(job) for job in page.jobs]
    return JobPage(jobs=jobs, next_cursor=next_cursor).respond()


async def get_job(request: web.Request) -> web.StreamResponse:
    """Answer with a job, once it has ended if the caller waits; as Markdown if that is asked."""
    job_id, wait = read_job_id(request), read_wait(request)
    job = await _find(request, job_id)
    if wait and not job.status.is_terminal:
        with _place_to_wait(request):
            await request.config_dict[ENDINGS].wait(job_id, wait)
        job = await _find(request, job_id)
    as_markdown, as_json = (
        preference(request, "text/markdown"),
        preference(request, "application/json"),
    )
    if as_markdown[0] and as_markdown > as_json:
        markdown = (job.result or {}).get("markdown")
        if markdown is not None:
            return web.Response(text=markdown, content_type="text/markdown")
        if not as_json[0]:
            raise _no_markdown(job)
    return (await _document(request, job)).respond()


async def cancel_job(request: web.Request) -> web.StreamResponse:
    """Cancel a job that has not ended, again and again if need be; or erase one that has."""
    if read_purge(request):
        return await purge_job(request)
    to, principal = request.config_dict[DEPENDENCIES], request[PRINCIPAL]
    job = await to.jobs.cancel_owned(
        read_job_id(request), principal.owner.tenant_id, principal.visible_user
    )
    to.background.spawn(f"cancellation:{job.id}", announce_cancellation(to, job))
    return DeletedJob(id=job.id, status="cancelled").respond()


async def _find(request: web.Request, job_id: UUID) -> Job:
    principal = request[PRINCIPAL]
    job = await request.config_dict[DEPENDENCIES].jobs.get_owned(
        job_id, principal.owner.tenant_id, principal.visible_user
    )
    if job is None:
        raise NotFound(f"no job {job_id}")
    return job


async def _document(request: web.Request, job: Job) -> JobDocument:
    to = request.config_dict[DEPENDENCIES]
    snapshot = await to.snapshots.of(job)
    return JobDocument.with_progress(job, snapshot, await to.jobs.totals(job))


def _no_markdown(job: Job) -> Problem:
    why = "it has no Markdown" if job.status.is_terminal else "it is not there yet"
    detail = f"the job is {job.status.value}: {why}"
    return Problem(status=406, code="NOT_ACCEPTABLE", detail=detail)
