"""Each kind of batch has several lanes: a statement that waits stops no other of its kind."""

import asyncio

import pytest

from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import an_opening
from tests.integration.postgres.acts import ACTS, PREPARATIONS
from tests.integration.postgres.steps import claimed


@pytest.mark.parametrize("what", ["clear", "close", "mark", "open", "record"])
async def test_a_statement_that_waits_for_a_lock_stops_no_other_of_its_kind(
    stores: Stores, observer: Observer, what: str
) -> None:
    slow, quick = await claimed(stores), await claimed(stores)
    for claim in (slow, quick):
        await stores.ledger.open_call(an_opening(claim))
    if what in PREPARATIONS:
        await observer.run(PREPARATIONS[what])
    async with observer.transaction():
        await observer.run("SELECT FROM jobs WHERE id = $1 FOR UPDATE", slow.fence.job_id)
        waiting = asyncio.ensure_future(ACTS[what](stores, [slow]))
        await observer.somebody_waits_for_a_lock()

        async with asyncio.timeout(2.0):  # less than any wait for a lock may take
            await ACTS[what](stores, [quick])

        assert not waiting.done()
    await waiting
