"""Each role may do what its processes do, and the API's sees one owner at a time."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.domain.errors import NotFound
from service.domain.job import JobStatus, Owner
from service.postgres.pool import Database
from service.postgres.schema import SchemaMismatch, check_api_role, check_worker_role, migrate
from tests.fixtures.database import Observer, Stores, api_database, open_stores
from tests.fixtures.factories import a_checkpoint, a_closing, a_new_job, an_opening, an_owner
from tests.fixtures.servers import as_role, create_database, drop_database
from tests.integration.postgres.steps import claimed, completed

ANN, BOB, MALLORY = (an_owner("acme", "ann"), an_owner("acme", "bob"), an_owner("rival", "ann"))
OWNED = ["jobs", "checkpoints", "usage_records", "daily_usage"]


class Role:
    """A connection of one role."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.connection = connection

    async def count(self, table: str) -> object:
        """How many rows it sees."""
        return await self.connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608

    async def refused(self, statement: str, *parameters: object) -> str:
        """What Postgres says to a statement that it must not run."""
        with pytest.raises(asyncpg.InsufficientPrivilegeError) as refusal:
            await self.connection.execute(statement, *parameters)
        return str(refusal.value)

    async def show(self, tenant_id: str, user_id: str | None) -> None:
        """What `fetch_within` sets, here until the transaction's end."""
        await self.connection.execute(
            "SELECT set_config('usa.tenant', $1, true), set_config('usa.user', $2, true),"
            " set_config('usa.whole_tenant', $3, true)",
            tenant_id,
            user_id or "",
            "on" if user_id is None else "off",
        )


@pytest.fixture
async def api(migrated_url: str) -> AsyncIterator[Role]:
    """The role that answers requests."""
    connection = await asyncpg.connect(as_role(migrated_url, "usa_api"))
    yield Role(connection)
    connection.terminate()


@pytest.fixture
async def worker(migrated_url: str) -> AsyncIterator[Role]:
    """The role that runs jobs."""
    connection = await asyncpg.connect(as_role(migrated_url, "usa_worker"))
    yield Role(connection)
    connection.terminate()


@pytest.fixture
async def job_of(stores: Stores) -> dict[Owner, UUID]:
    """A job under way of each owner, with a finished call."""
    jobs = {}
    for owner in (ANN, BOB, MALLORY):
        claim = await claimed(stores, owner=owner)
        await stores.ledger.open_call(an_opening(claim))
        await stores.ledger.close_call(a_closing(claim.fence, checkpoint=a_checkpoint()))
        jobs[owner] = claim.fence.job_id
    return jobs


@pytest.mark.parametrize("table", OWNED)
async def test_without_a_caller_the_api_sees_no_row(
    api: Role, worker: Role, job_of: dict[Owner, UUID], table: str
) -> None:
    assert await worker.count(table) == 3
    assert await api.count(table) == 0


@pytest.mark.parametrize("table", OWNED)
@pytest.mark.parametrize(
    ("tenant", "user", "seen"),
    [
        ("acme", "ann", 1),
        ("acme", None, 2),
        ("rival", "ann", 1),
        ("rival", "bob", 0),
        ("", None, 0),
        ("nobody", None, 0),
    ],
)
async def test_the_api_sees_its_caller_and_nobody_else_until_the_transaction_ends(
    api: Role, job_of: dict[Owner, UUID], table: str, tenant: str, user: str | None, seen: int
) -> None:
    async with api.connection.transaction():
        await api.show(tenant, user)
        assert await api.count(table) == seen

    assert await api.count(table) == 0


async def test_the_api_cannot_write_results(api: Role, job_of: dict[Owner, UUID]) -> None:
    async with api.connection.transaction():
        await api.show("acme", None)
        for statement in (
            "UPDATE jobs SET result = '{}'",
            "UPDATE jobs SET story = 'another'",
            "UPDATE jobs SET tenant_id = 'rival'",
            "INSERT INTO jobs (id) VALUES (gen_random_uuid())",
            "UPDATE checkpoints SET output = '{}'",
            "DELETE FROM checkpoints",
            "UPDATE usage_records SET cost_usd = 0",
            "UPDATE daily_usage SET request_count = 0",
            "UPDATE user_limits SET overrides = '{}'",
            "UPDATE api_keys SET scopes = '{admin}'",
            "INSERT INTO api_keys DEFAULT VALUES",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with api.connection.transaction():
                    await api.connection.execute(statement)


async def test_the_api_may_only_cancel_what_it_sees_and_what_has_not_ended(
    api: Role, stores: Stores, job_of: dict[Owner, UUID]
) -> None:
    await completed(stores, ANN)
    complete = "UPDATE jobs SET status = 'completed', final_event_id = '1-9'"
    cancel = (
        "UPDATE jobs SET status = 'cancelled', completed_at = clock_timestamp(),"
        " final_event_id = '2-1', reserved_tokens = 0 RETURNING id"
    )
    async with api.connection.transaction():
        await api.show("acme", "ann")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with api.connection.transaction():
                await api.connection.execute(complete)
        assert [row["id"] for row in await api.connection.fetch(cancel)] == [job_of[ANN]]


async def test_the_api_may_only_erase_what_it_sees_and_what_has_ended(
    api: Role, stores: Stores, job_of: dict[Owner, UUID]
) -> None:
    ended = (await completed(stores, ANN)).job_id
    async with api.connection.transaction():
        await api.show("acme", "ann")
        gone = await api.connection.fetch("DELETE FROM jobs RETURNING id")

    assert [row["id"] for row in gone] == [ended]


async def test_no_table_of_a_caller_stands_for_one_of_ours(
    migrated_url: str, observer: Observer
) -> None:
    # Anybody may make temporary tables, as it comes.
    database = Database(as_role(migrated_url, "usa_api"), name="test", size=1, row_security=True)
    async with open_stores(migrated_url, confined=database) as stores:
        async with database.connection() as connection:
            await connection.execute("CREATE TEMPORARY TABLE daily_usage (LIKE public.daily_usage)")
        accepted = await stores.jobs.accept(a_new_job(ANN))

    assert await observer.value("SELECT id FROM public.jobs") == accepted.job.id
    assert await observer.value("SELECT count(*) FROM public.daily_usage") == 1


async def test_what_the_api_does_for_owners_goes_through_its_role(
    migrated_url: str, stores: Stores, job_of: dict[Owner, UUID]
) -> None:
    async with open_stores(migrated_url, confined=api_database(migrated_url)) as confined:
        jobs = confined.jobs
        page = await jobs.list_owned("acme", None, None, None, 10)
        assert {job.id for job in page.jobs} == {job_of[ANN], job_of[BOB]}
        job = await jobs.get_owned(job_of[ANN], "acme", "ann")
        assert job is not None
        assert list(await jobs.checkpoints(job)) == ["validation/draft"]
        assert (await jobs.totals(job)).calls == 1
        with pytest.raises(NotFound):
            await jobs.cancel_owned(job_of[MALLORY], "acme", None)
        cancelled = await jobs.cancel_owned(job_of[ANN], "acme", "ann")
        assert cancelled.status is JobStatus.CANCELLED
        await jobs.purge_owned(job_of[ANN], "acme", "ann")
        assert (await confined.usage.today("acme", "bob")).requests == 1


async def test_a_query_that_forgets_its_owner_finds_nothing_of_others(
    migrated_url: str, job_of: dict[Owner, UUID]
) -> None:
    database = api_database(migrated_url)
    try:
        # Asked in Ann's name for Bob's job by its id alone, as a bug would.
        found = await database.fetch_within("acme", "ann", "get_job", job_of[BOB])
        assert found == []
        assert await database.fetch("get_job", job_of[BOB]) == []
        assert len(await database.fetch_within("acme", "bob", "get_job", job_of[BOB])) == 1
    finally:
        await database.close()


async def test_the_worker_sees_no_key_and_changes_no_limit(worker: Role) -> None:
    assert "api_keys" in await worker.refused("SELECT FROM api_keys")
    await worker.refused("INSERT INTO api_keys DEFAULT VALUES")
    await worker.refused("INSERT INTO user_limits VALUES ('acme', 'ann', '{}')")
    await worker.refused(
        "SELECT accept_jobs" + str(tuple("NULL" for _ in range(19))).replace("'", "")
    )


async def test_neither_role_may_change_the_schema(api: Role, worker: Role) -> None:
    for role in (api, worker):
        await role.refused("CREATE TABLE mine (id integer)")
        await role.refused("ALTER TABLE jobs DISABLE ROW LEVEL SECURITY")
        await role.refused("TRUNCATE jobs")
        await role.refused("SET ROLE usa_migrate")


async def test_a_role_that_owns_its_database_migrates_it_and_grants_the_others(
    admin_database_url: str, migrated_template: str
) -> None:
    name = f"owned_{uuid4().hex[:12]}"
    url = await create_database(admin_database_url, name)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(drop_database, admin_database_url, name)
        admin = await asyncpg.connect(url)
        await admin.execute(f'ALTER DATABASE "{name}" OWNER TO usa_migrate')
        await admin.execute("ALTER SCHEMA public OWNER TO usa_migrate")
        await admin.close()
        owner = Database(as_role(url, "usa_migrate"), name="migrate")
        stack.push_async_callback(owner.close)

        assert len(await migrate(owner)) > 4
        assert await migrate(owner) == []

        confined = api_database(url)
        await check_api_role(confined)
        working = Database(as_role(url, "usa_worker"), name="test")
        stores = await stack.enter_async_context(open_stores(url, working, confined=confined))
        fence = await completed(stores, ANN)
        seen = await stores.jobs.get_owned(fence.job_id, "acme", "ann")
        assert seen is not None
        assert seen.status is JobStatus.COMPLETED
        assert await stores.retention.delete_ended_jobs(30, 10) == 0


async def test_a_migration_renews_the_policies_that_another_version_left_and_no_others(
    api: Role, job_of: dict[Owner, UUID], migrated_url: str
) -> None:
    policies = "SELECT tablename || '.' || policyname AS name, oid FROM pg_policies, pg_policy"
    policies += " WHERE polname = policyname AND polrelid = tablename::regclass"
    owner = await asyncpg.connect(migrated_url)
    try:
        await owner.execute("DROP POLICY api_sees_its_caller ON jobs")
        await owner.execute(
            "CREATE POLICY api_sees_its_caller ON jobs FOR SELECT TO usa_api USING (true)"
        )
        assert await api.count("jobs") == len(job_of)
        before = {row["name"]: row["oid"] for row in await owner.fetch(policies)}

        database = Database(migrated_url, name="test")
        await migrate(database)
        await database.close()

        after = {row["name"]: row["oid"] for row in await owner.fetch(policies)}
    finally:
        await owner.close()
    assert await api.count("jobs") == 0
    assert before.keys() == after.keys()
    renewed = [name for name, oid in after.items() if before[name] != oid]
    assert renewed == ["jobs.api_sees_its_caller"]


async def test_an_api_whose_role_sees_everybody_does_not_start(migrated_url: str) -> None:
    owner = Database(migrated_url, name="test", row_security=True)
    try:
        with pytest.raises(SchemaMismatch, match="sees every tenant"):
            await check_api_role(owner)
    finally:
        await owner.close()


async def test_an_api_whose_role_lacks_grants_does_not_start(migrated_url: str) -> None:
    worker = Database(as_role(migrated_url, "usa_worker"), name="test", row_security=True)
    try:
        with pytest.raises(SchemaMismatch, match="lacks grants"):
            await check_api_role(worker)
    finally:
        await worker.close()


async def test_a_process_whose_role_cannot_run_jobs_does_not_start(migrated_url: str) -> None:
    api = Database(as_role(migrated_url, "usa_api"), name="test")
    try:
        with pytest.raises(SchemaMismatch, match="lacks grants"):
            await check_worker_role(api)
    finally:
        await api.close()


async def test_workers_and_whoever_owns_the_schema_can_run_jobs(migrated_url: str) -> None:
    for url in (as_role(migrated_url, "usa_worker"), migrated_url):
        able = Database(url, name="test")
        try:
            await check_worker_role(able)
        finally:
            await able.close()


async def test_nobody_but_the_owner_may_put_a_function_beside_ours(
    migrated_url: str, stores: Stores, observer: Observer, api: Role
) -> None:
    # As it is everywhere before Postgres 15.
    await observer.run("GRANT CREATE ON SCHEMA public TO PUBLIC")
    confined = api_database(migrated_url)
    try:
        with pytest.raises(SchemaMismatch, match="REVOKE CREATE"):
            await check_api_role(confined)
        await migrate(stores.database)
        await check_api_role(confined)
    finally:
        await confined.close()
    # For `accept_jobs`, which calls it as its owner, this would suit better than that of Postgres.
    await api.refused(
        "CREATE FUNCTION hashtextextended(text, integer) RETURNS bigint LANGUAGE sql AS 'SELECT 1'"
    )
