"""Erasing a job that has ended: its story, result, checkpoints and events, not what it has cost."""

from aiohttp import web

from service.api.auth import PRINCIPAL
from service.api.dependencies import DEPENDENCIES
from service.api.documents import DeletedJob
from service.api.followups import seal_events
from service.api.parameters import read_job_id
from service.domain.errors import JobNotEnded, NotFound


async def purge_job(request: web.Request) -> web.StreamResponse:
    """Erase a job of the caller's that has ended; from then on there is no such job.

    Its events go first, so that nothing is erased without Redis and the caller can come back.
    """
    to, principal = request.config_dict[DEPENDENCIES], request[PRINCIPAL]
    job_id = read_job_id(request)
    tenant_id, user_id = principal.owner.tenant_id, principal.visible_user
    job = await to.jobs.get_owned(job_id, tenant_id, user_id)
    if job is None:
        raise NotFound(f"no job {job_id}")
    if not job.status.is_terminal:
        raise JobNotEnded(job.status.value)
    await to.events.erase(job_id)
    await to.jobs.purge_owned(job_id, tenant_id, user_id)
    to.background.spawn(f"purge:{job_id}", seal_events(to, job_id))
    return DeletedJob(id=job_id, status="purged").respond()
