"""What happens to a job before the moment that a test is about."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from service.domain.attempt import Claim, Fence, Verdict
from service.domain.events import EventId
from service.domain.job import Job, Owner
from service.domain.transitions import Complete, HandBack, Retry
from service.domain.usage import Usage
from service.ports.attempts import ClaimTerms
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import (
    a_checkpoint,
    a_closing,
    a_delivery,
    a_new_job,
    an_opening,
    terms,
)

LONG = 60.0


async def accepted(
    stores: Stores, owner: Owner | None = None, *, deadline: float = 3600.0, reserved: int = 1000
) -> Job:
    """A queued job."""
    new = a_new_job(owner, deadline=deadline, reserved=reserved)
    return (await stores.jobs.accept(new)).job


async def claimed(
    stores: Stores,
    job_id: UUID | None = None,
    *,
    owner: Owner | None = None,
    under: ClaimTerms | None = None,
) -> Claim:
    """A job that a worker runs, under a long lease unless told otherwise."""
    if job_id is None:
        job_id = (await accepted(stores, owner)).id
    (claim,) = await stores.attempts.claim([a_delivery(job_id)], under or terms(lease=LONG))
    assert claim.verdict is Verdict.CLAIMED
    return claim


async def completed(stores: Stores, owner: Owner | None = None) -> Fence:
    """A job that ended well."""
    claim = await claimed(stores, owner=owner)
    recorded = await stores.attempts.record_if_current(
        claim.fence, Complete({"ok": True}), EventId(claim.fence.attempt, 3)
    )
    assert recorded.applied
    return claim.fence


async def retried(stores: Stores, delay: float) -> Fence:
    """A job that waits for its next attempt."""
    claim = await claimed(stores)
    recorded = await stores.attempts.record_if_current(
        claim.fence, Retry(delay, "MODEL_UNAVAILABLE", "busy"), None
    )
    assert recorded.applied
    return claim.fence


async def handed_back(stores: Stores) -> Fence:
    """A job whose worker was shut down."""
    claim = await claimed(stores)
    recorded = await stores.attempts.record_if_current(claim.fence, HandBack(), None)
    assert recorded.applied
    return claim.fence


async def finish_a_call(
    stores: Stores, claim: Claim, call: int = 1, *, step: str = "validation/draft"
) -> None:
    """A model call that was made and written down."""
    assert await stores.ledger.open_call(an_opening(claim, call, step=step))
    checkpoint = a_checkpoint(step)
    closing = a_closing(claim.fence, call, usage=Usage(100, 20), checkpoint=checkpoint)
    assert await stores.ledger.close_call(closing)


async def expire_leases(observer: Observer, seconds: float = 10.0) -> None:
    """Every worker has been silent since its lease ended, so many seconds ago."""
    await observer.run(
        "UPDATE jobs SET lease_until = clock_timestamp() - make_interval(secs => $1)"
        " WHERE status = 'processing'",
        seconds,
    )


async def taken_over(stores: Stores, observer: Observer, claim: Claim) -> Claim:
    """The same job, run by the next worker because the last one fell silent."""
    await expire_leases(observer)
    worker_id = f"{claim.fence.attempt + 1}th-worker"
    return await claimed(stores, claim.fence.job_id, under=terms(worker_id, max_crashes=99))


async def row_of(observer: Observer, job_id: UUID) -> dict[str, object]:
    """The job's row."""
    return dict(await observer.row("SELECT * FROM jobs WHERE id = $1", job_id))


def seconds_between(earlier: object, later: object) -> float:
    """How much later the second moment is."""
    assert isinstance(earlier, datetime)
    assert isinstance(later, datetime)
    return (later - earlier).total_seconds()


async def assert_books_balance(observer: Observer, *, all_jobs_there: bool = True) -> None:
    """Every day of every user is the sum of its closed calls and of its accepted jobs.

    Those cannot be counted any more when some have been erased.
    """
    wrong = await observer.connection.fetch(_IMBALANCES, all_jobs_there)
    assert wrong == []
    ended = "SELECT count(*) FROM jobs WHERE completed_at IS NOT NULL AND reserved_tokens <> 0"
    assert await observer.value(ended) == 0


async def day_of(observer: Observer, owner: Owner) -> dict[str, int | Decimal]:
    """What `daily_usage` says about a user who was active on one day."""
    row = await observer.row(
        "SELECT request_count, input_tokens, output_tokens, cache_read_tokens,"
        " cache_write_tokens, cost_usd, unpriced_calls FROM daily_usage"
        " WHERE tenant_id = $1 AND user_id = $2",
        owner.tenant_id,
        owner.user_id,
    )
    return dict(row)


_IMBALANCES = """
WITH ledger AS (
  SELECT tenant_id, user_id, day, sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens, sum(cache_read_tokens) AS cache_read_tokens,
    sum(cache_write_tokens) AS cache_write_tokens, coalesce(sum(cost_usd), 0) AS cost_usd,
    count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced_calls
  FROM usage_records WHERE ending IS NOT NULL GROUP BY tenant_id, user_id, day
), requests AS (
  SELECT tenant_id, user_id, reserved_on AS day, count(*) AS request_count
  FROM jobs GROUP BY tenant_id, user_id, reserved_on
), expected AS (
  SELECT tenant_id, user_id, day, CASE WHEN $1 THEN coalesce(request_count, 0) END AS request_count,
    coalesce(input_tokens, 0) AS input_tokens, coalesce(output_tokens, 0) AS output_tokens,
    coalesce(cache_read_tokens, 0) AS cache_read_tokens,
    coalesce(cache_write_tokens, 0) AS cache_write_tokens,
    coalesce(cost_usd, 0) AS cost_usd, coalesce(unpriced_calls, 0) AS unpriced_calls
  FROM requests FULL JOIN ledger USING (tenant_id, user_id, day)
), booked AS (
  SELECT tenant_id, user_id, day, CASE WHEN $1 THEN request_count END AS request_count,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, unpriced_calls
  FROM daily_usage
)
(SELECT 'not booked' AS what, e.* FROM (TABLE expected EXCEPT TABLE booked) e)
UNION ALL
(SELECT 'booked', b.* FROM (TABLE booked EXCEPT TABLE expected) b)
"""
