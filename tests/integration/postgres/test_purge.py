"""The statement that purges guards itself, whatever was looked at before."""

import pytest

from service.domain.errors import JobNotEnded, NotFound
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import an_id
from tests.integration.postgres.steps import accepted, claimed, completed, row_of


@pytest.mark.parametrize(
    ("tenant", "user"), [("acme", "somebody else"), ("rival", "user"), ("rival", None)]
)
async def test_nobody_purges_what_is_somebody_elses(
    stores: Stores, observer: Observer, tenant: str, user: str | None
) -> None:
    fence = await completed(stores)
    before = await row_of(observer, fence.job_id)

    with pytest.raises(NotFound):
        await stores.jobs.purge_owned(fence.job_id, tenant, user)

    assert await row_of(observer, fence.job_id) == before


async def test_nothing_is_purged_before_it_has_ended(stores: Stores, observer: Observer) -> None:
    queued, running = (await accepted(stores)).id, (await claimed(stores)).fence.job_id
    for job_id, status in ((queued, "queued"), (running, "processing")):
        with pytest.raises(JobNotEnded, match=status):
            await stores.jobs.purge_owned(job_id, "acme", None)
        assert (await row_of(observer, job_id))["status"] == status


async def test_what_never_was_cannot_be_purged(stores: Stores) -> None:
    with pytest.raises(NotFound):
        await stores.jobs.purge_owned(an_id(), "acme", None)
