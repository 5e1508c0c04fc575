"""Redriving failed jobs: an owner's own, and everybody's for those who operate the queue."""

from typing import Final

from aiohttp import web

from service.api.audit import JOBS_CHANGED
from service.api.auth import PRINCIPAL
from service.api.bodies import read_object, validated
from service.api.cursors import encode_cursor
from service.api.dead_letter_documents import (
    DeadLetterDocument,
    DeadLetterList,
    RedriveOrder,
    RedriveReport,
    RefusedRedrive,
)
from service.api.dependencies import DEPENDENCIES, ApiDependencies
from service.api.documents import JobLinks, JobReceipt, RedrivenJob
from service.api.followups import announce_redrive
from service.api.parameters import read_cursor, read_error_code, read_job_id, read_limit
from service.domain.dead_letters import Redrive, Redriven
from service.domain.errors import FieldError, InvalidInput

_POLL_AFTER: Final = {"Retry-After": "2"}


async def redrive_job(request: web.Request) -> web.StreamResponse:
    """Queue a failed job of the caller's again; its finished calls are not paid again."""
    to, principal = request.config_dict[DEPENDENCIES], request[PRINCIPAL]
    redriven = await to.dead_letters.redrive_owned(
        read_job_id(request), principal.owner.tenant_id, principal.visible_user, principal.tier
    )
    _announce(to, redriven)
    links = JobLinks.of(redriven.job.id)
    document = RedrivenJob(job=JobReceipt.of(redriven.job), links=links)
    return document.respond(status=202, headers={"Location": links.self, **_POLL_AFTER})


async def list_dead_letters(request: web.Request) -> web.StreamResponse:
    """Answer with a page of everybody's failed jobs, newest first, without what they are about."""
    page = await request.config_dict[DEPENDENCIES].dead_letters.page(
        read_error_code(request), read_cursor(request), read_limit(request)
    )
    next_cursor = encode_cursor(*page.next_cursor) if page.next_cursor else None
    letters = [DeadLetterDocument.of(letter) for letter in page.letters]
    return DeadLetterList(dead_letters=letters, next_cursor=next_cursor).respond()


async def redrive_dead_letters(request: web.Request) -> web.StreamResponse:
    """Queue failed jobs again, those that are named or some that failed with the same code."""
    to = request.config_dict[DEPENDENCIES]
    order = validated(RedriveOrder, await read_object(request), "redrive")
    redrive = await _redrive(to, order)
    request[JOBS_CHANGED] = tuple(each.job.id for each in redrive.redriven)
    for redriven in redrive.redriven:
        _announce(to, redriven)
    report = RedriveReport(
        redriven=[each.job.id for each in redrive.redriven],
        refused=[RefusedRedrive.of(*each) for each in redrive.others.items()],
    )
    return report.respond(status=202)


async def _redrive(to: ApiDependencies, order: RedriveOrder) -> Redrive:
    match order.ids, order.code:
        case [*ids], None:
            return await to.dead_letters.redrive(ids)
        case None, str(code):
            return Redrive(tuple(await to.dead_letters.redrive_code(code, order.limit)), {})
        case _:
            message = "give either `ids` or a `code`"
            raise InvalidInput(message, errors=[FieldError("ids", message)])


def _announce(to: ApiDependencies, redriven: Redriven) -> None:
    # The job is committed as queued, so nobody waits for Redis.
    to.background.spawn(f"redrive:{redriven.job.id}", announce_redrive(to, redriven))
