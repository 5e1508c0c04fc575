"""What maintenance asks of Postgres: whom to relay, whom to repair."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from service.domain.attempt import Fence
from service.domain.job import Job, JobStatus
from service.ports.upkeep import DueJob, RecordedEntry, Recovered
from service.postgres.pool import Database
from service.postgres.rows import job_from
from service.postgres.turns import RECONCILER, turn
from service.postgres.usage_ledger import abandon_calls


class PostgresUpkeepStore:
    """Bounded batches for the relay and the reconciler."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._relayed_last: tuple[str | None, str | None] = (None, None)

    async def take_relay_batch(self, user_in_stream: int, limit: int) -> list[DueJob]:
        """Take jobs due for an entry, fairly between users; nobody else gets them for 5 s."""
        rows = await self._database.fetch(
            "take_relay_batch", user_in_stream, limit, *self._relayed_last
        )
        for row in rows[:1]:
            self._relayed_last = (row["tenant_id"], row["user_id"])
        return [
            DueJob(Fence(row["id"], row["attempt"]), row["trace_parent"])
            for row in rows
            if row["id"] is not None
        ]

    def only_reconciler(self) -> AbstractAsyncContextManager[bool]:
        """Hold the lock that lets one reconciler work at a time, if it is free."""
        return turn(self._database, RECONCILER)

    async def owing_events(self, limit: int, *, skip: int = 0) -> list[Job]:
        """List ended jobs whose terminal event may not be in their stream."""
        rows = await self._database.fetch("list_owing_events", limit, skip)
        return [job_from(row) for row in rows]

    async def expired_leases(
        self, lease: float, limit: int, *, skip: int = 0
    ) -> list[RecordedEntry]:
        """List jobs whose worker has been silent for longer than its lease.

        Without their entry where it has been silent for so long that the entry does not count.
        """
        rows = await self._database.fetch("list_expired_leases", lease, limit, skip)
        return [
            RecordedEntry(Fence(row["id"], row["attempt"]), row["entry_id"] or "") for row in rows
        ]

    async def recover_if_expired(self, fences: Sequence[Fence], max_crashes: int) -> Recovered:
        """Queue lost jobs again, or fail those that have used up their crash budget."""
        rows = await self._database.fetch(
            "recover_if_expired",
            [fence.job_id for fence in fences],
            [fence.attempt for fence in fences],
            max_crashes,
        )
        statuses = [row["status"] for row in rows]
        return Recovered(statuses.count(JobStatus.QUEUED), statuses.count(JobStatus.FAILED))

    async def fail_overdue(self, limit: int) -> int:
        """Fail queued jobs whose deadline has passed."""
        return len(await self._database.fetch("fail_overdue", limit))

    async def suspect_entries(
        self,
        *,
        started: bool,
        last_delivered: tuple[int, int],
        span: tuple[tuple[int, int], tuple[int, int]] | None,
        limit: int,
        skip: int = 0,
    ) -> list[RecordedEntry]:
        """List queued jobs whose entry was delivered or is not in the stream."""
        first, last = span or ((None, None), (None, None))
        rows = await self._database.fetch(
            "list_suspect_entries", started, *last_delivered, *first, *last, limit, skip
        )
        return [RecordedEntry(Fence(row["id"], row["attempt"]), row["entry_id"]) for row in rows]

    async def unmark_entries(self, entries: Sequence[tuple[UUID, str]]) -> int:
        """Forget lost entries, so that the relay adds new ones."""
        ids, entry_ids = [e[0] for e in entries], [e[1] for e in entries]
        return len(await self._database.fetch("unmark_entries", ids, entry_ids))

    async def write_off_calls(self, limit: int) -> int:
        """Book the calls that nobody will close any more, because their jobs have ended."""
        rows = await self._database.fetch("list_calls_left_open", limit)
        return await abandon_calls(
            self._database, [Fence(row["job_id"], row["attempt"]) for row in rows]
        )
