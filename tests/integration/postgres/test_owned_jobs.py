"""Jobs as their owners see them: nobody else's, page by page, and cancelled once."""

from datetime import datetime
from uuid import UUID

import pytest

from service.domain.errors import JobFinished, NotFound
from service.domain.job import Job, JobStatus, Owner
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import a_new_job, an_id, an_owner
from tests.integration.postgres.steps import accepted, claimed, completed, retried, row_of

ANN, BOB, EVE = Owner("acme", "ann"), Owner("acme", "bob"), Owner("rival", "ann")


async def test_a_job_is_read_by_its_user_and_its_tenant_and_by_nobody_else(
    stores: Stores,
) -> None:
    job = await accepted(stores, ANN)

    assert await stores.jobs.get_owned(job.id, "acme", "ann") == job
    assert await stores.jobs.get_owned(job.id, "acme", None) == job
    assert await stores.jobs.get_owned(job.id, "acme", "bob") is None
    assert await stores.jobs.get_owned(job.id, "rival", "ann") is None
    assert await stores.jobs.get_owned(job.id, "rival", None) is None
    assert await stores.jobs.get_owned(an_id(), "acme", "ann") is None


async def page_ids(stores: Stores, owner: Owner, limit: int) -> list[list[UUID]]:
    """All pages, until there is no next one."""
    pages: list[list[UUID]] = []
    before: tuple[datetime, UUID] | None = None
    while True:
        page = await stores.jobs.list_owned(owner.tenant_id, owner.user_id, None, before, limit)
        pages.append([job.id for job in page.jobs])
        before = page.next_cursor
        if before is None:
            return pages


async def test_pages_are_newest_first_and_end(stores: Stores) -> None:
    jobs = [(await accepted(stores, ANN)).id for _ in range(5)]
    await accepted(stores, BOB)
    await accepted(stores, EVE)

    pages = await page_ids(stores, ANN, 2)

    assert pages == [[jobs[4], jobs[3]], [jobs[2], jobs[1]], [jobs[0]]]


async def test_a_page_that_is_exactly_full_is_the_last(stores: Stores) -> None:
    for _ in range(4):
        await accepted(stores, ANN)

    pages = await page_ids(stores, ANN, 2)

    assert [len(page) for page in pages] == [2, 2]


async def test_long_stories_make_pages_shorter_and_none_is_left_out(stores: Stores) -> None:
    long = 51_200 * "x"
    news = [a_new_job(ANN, story=long) for _ in range(41)] + [a_new_job(ANN)]
    for new in news:
        await stores.jobs.accept(new)

    pages = await page_ids(stores, ANN, 100)

    assert [len(page) for page in pages] == [21, 20, 1]
    assert [job_id for page in pages for job_id in page] == [new.id for new in news[::-1]]
    assert [len(page) for page in await page_ids(stores, ANN, 30)] == [21, 20, 1]


async def test_a_story_that_is_longer_than_a_page_is_a_page(stores: Stores) -> None:
    for _ in range(2):
        await stores.jobs.accept(a_new_job(ANN, story=1_100_000 * "x"))

    assert [len(page) for page in await page_ids(stores, ANN, 100)] == [1, 1]


async def test_pages_are_stable_while_jobs_are_added(stores: Stores) -> None:
    jobs = [(await accepted(stores, ANN)).id for _ in range(4)]
    first = await stores.jobs.list_owned("acme", "ann", None, None, 2)

    await accepted(stores, ANN)
    second = await stores.jobs.list_owned("acme", "ann", None, first.next_cursor, 2)

    assert [job.id for job in (*first.jobs, *second.jobs)] == jobs[::-1]


async def test_jobs_of_the_same_moment_are_all_listed(stores: Stores, observer: Observer) -> None:
    jobs = {(await accepted(stores, ANN)).id for _ in range(5)}
    await observer.run("UPDATE jobs SET created_at = '2026-01-01T00:00:00Z'")

    pages = await page_ids(stores, ANN, 2)

    assert [len(page) for page in pages] == [2, 2, 1]
    assert {job_id for page in pages for job_id in page} == jobs


async def test_a_tenant_sees_the_jobs_of_its_users(stores: Stores) -> None:
    jobs = [(await accepted(stores, owner)).id for owner in (ANN, BOB, EVE)]

    page = await stores.jobs.list_owned("acme", None, None, None, 10)

    assert [job.id for job in page.jobs] == jobs[1::-1]


async def test_jobs_are_listed_by_status_and_without_their_results(stores: Stores) -> None:
    await accepted(stores, ANN)
    done = await completed(stores, ANN)

    page = await stores.jobs.list_owned("acme", "ann", JobStatus.COMPLETED, None, 10)

    assert [(job.id, job.result) for job in page.jobs] == [(done.job_id, None)]


async def test_cancelling_a_queued_job_decides_it(stores: Stores, observer: Observer) -> None:
    job = await accepted(stores, ANN)

    cancelled = await stores.jobs.cancel_owned(job.id, "acme", "ann")

    assert (cancelled.status, cancelled.attempt) == (JobStatus.CANCELLED, 1)
    assert cancelled.final_event_id == "1-1"
    row = await row_of(observer, job.id)
    assert (row["event_pending"], row["reserved_tokens"], row["lease_until"]) == (True, 0, None)


async def test_cancelling_a_running_job_fences_its_worker(stores: Stores) -> None:
    claim = await claimed(stores, owner=ANN)

    cancelled = await stores.jobs.cancel_owned(claim.fence.job_id, "acme", "ann")

    assert (cancelled.attempt, cancelled.final_event_id) == (2, "2-1")
    assert await stores.leases.renew("worker-1", [claim.fence], 15.0) == set()


async def test_cancelling_twice_gives_the_same_job_again(stores: Stores) -> None:
    job = await accepted(stores, ANN)
    first = await stores.jobs.cancel_owned(job.id, "acme", "ann")

    assert await stores.jobs.cancel_owned(job.id, "acme", "ann") == first


async def test_a_job_that_waits_for_its_retry_can_be_cancelled(stores: Stores) -> None:
    fence = await retried(stores, 600.0)

    cancelled = await stores.jobs.cancel_owned(fence.job_id, "acme", None)

    assert cancelled.status is JobStatus.CANCELLED


async def test_a_finished_job_cannot_be_cancelled(stores: Stores) -> None:
    fence = await completed(stores, ANN)

    with pytest.raises(JobFinished) as refused:
        await stores.jobs.cancel_owned(fence.job_id, "acme", "ann")

    assert refused.value.status == "completed"


@pytest.mark.parametrize("stranger", [BOB, EVE], ids=["user", "tenant"])
async def test_a_strangers_job_cannot_be_cancelled(stores: Stores, stranger: Owner) -> None:
    job = await accepted(stores, ANN)

    with pytest.raises(NotFound):
        await stores.jobs.cancel_owned(job.id, stranger.tenant_id, stranger.user_id)

    assert await _status(stores, job) is JobStatus.QUEUED


async def test_an_unknown_job_cannot_be_cancelled(stores: Stores) -> None:
    with pytest.raises(NotFound):
        await stores.jobs.cancel_owned(an_id(), "acme", an_owner().user_id)


async def _status(stores: Stores, job: Job) -> JobStatus | None:
    return (await stores.jobs.read_fences([job.id]))[job.id].status
