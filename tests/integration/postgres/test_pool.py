"""A pool says how many of its connections are lent."""

from tests.fixtures.database import Stores


async def test_a_pool_tells_how_many_connections_are_in_use(stores: Stores) -> None:
    database = stores.database
    before = database.use()
    async with database.connection():
        lent = database.use()
        async with database.connection():
            both = database.use()
    after = database.use()

    assert (before.used, lent.used, both.used, after.used) == (0, 1, 2, 0)
    assert after.idle == 2
    assert before.most == after.most == 10
