"""Values that a database refuses fail their own item, or are stored in the nearest form."""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.domain.attempt import Fence
from service.domain.errors import Unavailable
from service.domain.events import EventId
from service.domain.transitions import Abandon, Complete, Fail
from service.domain.usage import Usage
from service.group_commit import GroupCommit
from service.postgres.batches import array_statement
from service.postgres.pool import BAD_ITEMS
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import a_checkpoint, a_closing, a_new_job, an_opening
from tests.integration.postgres.steps import assert_books_balance, claimed

NUL = "a\x00b"
HALF = "a\ud800b"
KEPT = "a\ufffdb"

FINAL = EventId(1, 1)


@pytest.mark.parametrize("text", [NUL, HALF], ids=["nul", "half a surrogate pair"])
async def test_a_result_is_kept_even_if_a_model_wrote_what_cannot_be_stored(
    stores: Stores, text: str
) -> None:
    claim = await claimed(stores)

    await stores.attempts.record_if_current(claim.fence, Complete({text: [text]}), FINAL)

    job = await stores.attempts.get(claim.fence.job_id)
    assert job is not None
    assert job.result == {KEPT: [KEPT]}


@pytest.mark.parametrize("text", [NUL, HALF], ids=["nul", "half a surrogate pair"])
async def test_a_call_is_booked_even_if_its_output_cannot_be_stored_as_it_is(
    stores: Stores, observer: Observer, text: str
) -> None:
    claim = await claimed(stores)
    await stores.ledger.open_call(an_opening(claim))
    closing = a_closing(
        claim.fence, checkpoint=a_checkpoint("draft", text=text), request_id=text, model=text
    )

    assert await stores.ledger.close_call(closing)

    checkpoints = await stores.checkpoints(claim.fence.job_id)
    assert checkpoints["draft"].text == KEPT
    assert (await stores.ledger.totals(claim.fence.job_id)).models == (KEPT,)
    await assert_books_balance(observer)


async def test_an_error_message_is_kept_even_if_it_quotes_what_cannot_be_stored(
    stores: Stores,
) -> None:
    claim = await claimed(stores)

    await stores.attempts.record_if_current(claim.fence, Fail("MODEL_REFUSED", NUL), FINAL)

    job = await stores.attempts.get(claim.fence.job_id)
    assert job is not None
    assert job.error is not None
    assert job.error["message"] == KEPT


@pytest.mark.parametrize("text", [NUL, HALF], ids=["nul", "half a surrogate pair"])
async def test_a_story_that_cannot_be_stored_is_an_error_of_the_caller_not_an_outage(
    stores: Stores, observer: Observer, text: str
) -> None:
    with pytest.raises((asyncpg.DataError, ValueError)):
        await stores.jobs.accept(a_new_job(story=text))

    assert await observer.value("SELECT count(*) FROM jobs") == 0
    assert await observer.value("SELECT count(*) FROM daily_usage") == 0


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(Complete({"n": 1 << 70}), id="refused before it is sent"),
        pytest.param(Abandon(), id="not an ending"),
    ],
)
async def test_a_bad_ending_fails_alone(stores: Stores, bad: Any) -> None:
    claims = [await claimed(stores) for _ in range(5)]
    endings = [Complete({"n": n}) if n != 3 else bad for n in range(5)]

    answers = await asyncio.gather(
        *(
            stores.attempts.record_if_current(claim.fence, ending, FINAL)
            for claim, ending in zip(claims, endings, strict=True)
        ),
        return_exceptions=True,
    )

    assert [isinstance(answer, TypeError) for answer in answers] == [n == 3 for n in range(5)]
    completed = await stores.attempts.read_fences([claim.fence.job_id for claim in claims])
    assert sum(bool(each.final_event_id) for each in completed.values()) == 4


@pytest.mark.parametrize(
    ("cost", "usage"),
    [
        pytest.param(Decimal("1e12"), Usage(1, 1), id="a cost that does not fit"),
        pytest.param(Decimal("NaN"), Usage(1, 1), id="a cost that is not a number"),
        pytest.param(Decimal(1), Usage(1, -1), id="fewer than no tokens"),
        pytest.param(Decimal(1), Usage(1, 1 << 63), id="tokens refused before they are sent"),
    ],
)
async def test_a_bad_close_fails_alone(
    stores: Stores, observer: Observer, cost: Decimal, usage: Usage
) -> None:
    claims = [await claimed(stores) for _ in range(7)]
    for claim in claims:
        await stores.ledger.open_call(an_opening(claim))
    closings = [a_closing(claim.fence) for claim in claims]
    closings[4] = a_closing(claims[4].fence, cost=cost, usage=usage)

    answers = await asyncio.gather(
        *(stores.ledger.close_call(closing) for closing in closings), return_exceptions=True
    )

    assert [answer is True for answer in answers] == [n != 4 for n in range(7)]
    assert isinstance(answers[4], BAD_ITEMS)
    await assert_books_balance(observer)


async def test_a_bad_mark_fails_alone(stores: Stores, observer: Observer) -> None:
    jobs = [(await stores.jobs.accept(a_new_job())).job for _ in range(3)]
    marks = [(jobs[0].id, "1-0"), (jobs[1].id, NUL), (jobs[2].id, "3-0")]

    answers = await asyncio.gather(
        *(stores.attempts.mark_entry(Fence(job_id, 0), entry) for job_id, entry in marks),
        return_exceptions=True,
    )

    assert [answer is None for answer in answers] == [True, False, True]
    kept = await observer.connection.fetch("SELECT entry_id FROM jobs ORDER BY created_at")
    assert [row["entry_id"] for row in kept] == ["1-0", None, "3-0"]


async def test_a_deadlock_is_resolved_by_running_the_batch_again(
    stores: Stores, observer: Observer
) -> None:
    first, second = await claimed(stores), await claimed(stores)
    low, high = sorted([first.fence.job_id, second.fence.job_id])
    async with observer.transaction():
        # The batch takes `low` and waits for `high`; this waits for `low`, so one must yield.
        await observer.run("SET LOCAL deadlock_timeout = '10s'")
        await observer.run("SELECT FROM jobs WHERE id = $1 FOR UPDATE", high)
        renewing = asyncio.ensure_future(
            stores.leases.renew("worker-1", [first.fence, second.fence], 15.0)
        )
        await observer.somebody_waits_for_a_lock()
        await observer.run("SELECT FROM jobs WHERE id = $1 FOR UPDATE", low)

    assert await renewing == {first.fence, second.fence}


_CONFLICT_ONCE = """
CREATE SEQUENCE updates;
CREATE FUNCTION conflict_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF nextval('updates') = 1 THEN
    RAISE EXCEPTION 'somebody else was faster' USING ERRCODE = 'serialization_failure';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER conflict_once BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION conflict_once();
"""


async def test_a_serialization_failure_is_resolved_by_running_the_batch_again(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    await observer.run(_CONFLICT_ONCE)

    recorded = await stores.attempts.record_if_current(claim.fence, Complete({"ok": True}), FINAL)

    assert recorded.applied
    # A sequence keeps its place when a transaction is rolled back.
    assert await observer.value("SELECT last_value FROM updates") == 2


async def test_a_lock_that_is_never_released_is_an_outage_not_a_hang(
    stores: Stores, observer: Observer
) -> None:
    claim = await claimed(stores)
    async with observer.transaction():
        await observer.run("SELECT FROM jobs FOR UPDATE")

        with pytest.raises(Unavailable):
            async with asyncio.timeout(5):
                await stores.leases.renew("worker-1", [claim.fence], 15.0)


async def test_a_wrong_number_of_answers_is_noticed(stores: Stores) -> None:
    commit: GroupCommit[UUID, str] = GroupCommit(
        "wrong",
        array_statement(
            stores.database, "read_checkpoints", lambda job_id: (job_id,), lambda row: row["step"]
        ),
        stores.background,
    )

    with pytest.raises(AssertionError, match="answered 0 of 1"):
        await commit.submit((await claimed(stores)).fence.job_id)
