"""Whatever happens in whatever order, the books balance and ended jobs stay ended."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.attempt import Fence, Verdict
from service.domain.errors import JobFinished, JobNotEnded
from service.domain.events import EventId
from service.domain.job import Job, JobStatus
from service.domain.transitions import Complete, Fail, HandBack, Retry, Transition
from service.domain.usage import Usage
from service.ports.attempts import CallOpening
from tests.fixtures.database import Observer, Stores
from tests.fixtures.factories import a_checkpoint, a_closing, a_delivery, a_new_job, an_owner, terms
from tests.integration.postgres.steps import assert_books_balance, expire_leases, row_of

Found = TypeVar("Found")

RESERVED = 500

ENDINGS: tuple[tuple[Transition, bool], ...] = (
    (Complete({"ok": True}), True),
    (Fail("MODEL_REFUSED", "no"), True),
    (Retry(0.0, "MODEL_UNAVAILABLE", "busy"), False),
    (HandBack(), False),
)

Step = tuple[str, int, int]
KINDS = (
    *("claim", "claim", "open", "open", "close", "close", "expire"),
    *("end", "recover", "cancel", "write_off", "overdue", "purge", "redrive", "close_all"),
)
# The numbers say what to do it to, which job, attempt or call, and in which way.
steps = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 7), st.integers(0, 7)), min_size=5, max_size=40
)


@dataclass
class Books:
    """What the books should say, kept by hand beside the real ones."""

    stores: Stores
    observer: Observer
    jobs: list[Job]
    fences: list[Fence] = field(default_factory=list)
    opened: list[tuple[Fence, int]] = field(default_factory=list)
    booked: dict[tuple[Fence, int], Usage] = field(default_factory=dict)
    reserved: dict[UUID, int] = field(default_factory=dict)
    ended: dict[UUID, dict[str, object]] = field(default_factory=dict)
    attempts: dict[UUID, int] = field(default_factory=dict)
    purged: list[UUID] = field(default_factory=list)

    async def take(self, step: Step) -> None:
        """Do one thing; what cannot be done yet is left out."""
        what, which, how = step
        await getattr(self, f"_{what}")(which, how)
        await self._check()

    async def _claim(self, which: int, how: int) -> None:
        job = self.jobs[which % len(self.jobs)]
        under = terms(f"worker-{how % 3}", lease=0.5, max_crashes=4, suspects_allowed=how % 2)
        (claim,) = await self.stores.attempts.claim([a_delivery(job.id)], under)
        if claim.verdict is Verdict.CLAIMED:
            self.fences.append(claim.fence)

    async def _open(self, which: int, how: int) -> None:
        if not self.fences:
            return
        fence = _pick(self.fences, which)
        call = how % 3 + 1
        opening = CallOpening(
            fence=fence,
            call=call,
            owner=self.jobs[0].owner,
            step="validation/draft",
            model="claude",
            estimated_input=10,
            estimated_cost_usd=None if how % 2 else Decimal("0.01"),
        )
        if await self.stores.ledger.open_call(opening):
            self.opened.append((fence, call))

    async def _close(self, which: int, how: int) -> None:
        if not self.opened:
            return
        await self._close_one(*_pick(self.opened, which), how)

    async def _close_all(self, which: int, how: int) -> None:
        """Close every call, most of them again, in batches."""
        await asyncio.gather(*(self._close_one(*call, how) for call in set(self.opened)))

    async def _close_one(self, fence: Fence, call: int, how: int) -> None:
        usage = Usage(how * 10, how, how * 2, 1)
        checkpoint = a_checkpoint(f"step-{how % 3}") if how % 2 else None
        # Less than the ledger can tell, so that rounding shows.
        price = None if how == 4 else Decimal(how) / 8 + Decimal("0.000000004")
        is_current = await self.stores.ledger.close_call(
            a_closing(fence, call, usage=usage, cost=price, checkpoint=checkpoint)
        )
        if (fence, call) not in self.booked:
            self.booked[fence, call] = usage
            if is_current and fence.job_id in self.reserved:
                left = self.reserved[fence.job_id] - usage.total
                self.reserved[fence.job_id] = max(0, left)

    async def _end(self, which: int, how: int) -> None:
        if not self.fences:
            return
        fence = _pick(self.fences, which)
        transition, is_final = ENDINGS[how % len(ENDINGS)]
        final = EventId(fence.attempt, 9) if is_final else None
        await self.stores.attempts.record_if_current(fence, transition, final)

    async def _expire(self, which: int, how: int) -> None:
        await expire_leases(self.observer)

    async def _recover(self, which: int, how: int) -> None:
        listed = await self.stores.upkeep.expired_leases(0.01, 10)
        await self.stores.upkeep.recover_if_expired([each.fence for each in listed], 4)

    async def _cancel(self, which: int, how: int) -> None:
        job = self.jobs[which % len(self.jobs)]
        if how > 2:
            return
        try:
            await self.stores.jobs.cancel_owned(job.id, job.owner.tenant_id, job.owner.user_id)
        except JobFinished:
            assert (await row_of(self.observer, job.id))["status"] in {"completed", "failed"}

    async def _purge(self, which: int, how: int) -> None:
        """Erase an ended job, which another one replaces."""
        job = self.jobs[which % len(self.jobs)]
        row = await row_of(self.observer, job.id)
        try:
            await self.stores.jobs.purge_owned(job.id, job.owner.tenant_id, job.owner.user_id)
        except JobNotEnded:
            assert not JobStatus(str(row["status"])).is_terminal
            return
        assert JobStatus(str(row["status"])).is_terminal
        self.jobs.remove(job)
        self.purged.append(job.id)
        replacement = (await self.stores.jobs.accept(a_new_job(job.owner, reserved=RESERVED))).job
        self.jobs.append(replacement)
        self.reserved[replacement.id] = RESERVED

    async def _redrive(self, which: int, how: int) -> None:
        job = self.jobs[which % len(self.jobs)]
        for redriven in (await self.stores.dead_letters.redrive([job.id])).redriven:
            assert self.ended.pop(job.id)["status"] == "failed"
            self.reserved[job.id] = RESERVED
            assert redriven.job.attempt > self.attempts[job.id]

    async def _write_off(self, which: int, how: int) -> None:
        await self.observer.run(
            "UPDATE jobs SET completed_at = completed_at - interval '11 seconds'"
            " WHERE completed_at > clock_timestamp() - interval '11 seconds'"
        )
        self.ended = {job.id: await row_of(self.observer, job.id) for job in self.jobs_ended}
        await self.stores.upkeep.write_off_calls(10)

    async def _overdue(self, which: int, how: int) -> None:
        if how == 0:
            await self.observer.run(
                "UPDATE jobs SET deadline_at = clock_timestamp() WHERE id = $1 AND"
                " completed_at IS NULL",
                self.jobs[which % len(self.jobs)].id,
            )
        await self.stores.upkeep.fail_overdue(10)

    @property
    def jobs_ended(self) -> list[Job]:
        return [job for job in self.jobs if job.id in self.ended]

    async def _check(self) -> None:
        await assert_books_balance(self.observer, all_jobs_there=not self.purged)
        requests = await self.observer.value("SELECT sum(request_count) FROM daily_usage")
        assert requests == len(self.jobs) + len(self.purged)
        for job in self.jobs:
            await self._check_row(await row_of(self.observer, job.id))
        for job_id in (*self.purged, *(job.id for job in self.jobs)):
            await self._check_ledger(job_id)

    async def _check_row(self, row: dict[str, object]) -> None:
        job_id, attempt = row["id"], row["attempt"]
        assert isinstance(job_id, UUID)
        assert isinstance(attempt, int)
        assert attempt >= self.attempts.get(job_id, 0)
        self.attempts[job_id] = attempt
        if JobStatus(str(row["status"])).is_terminal:
            self.reserved[job_id] = 0
            assert row == self.ended.setdefault(job_id, row)
        assert row["reserved_tokens"] == self.reserved[job_id]

    async def _check_ledger(self, job_id: UUID) -> None:
        closed = await self.observer.connection.fetch(
            "SELECT * FROM usage_records WHERE job_id = $1 AND ending IS NOT NULL", job_id
        )
        for row in closed:
            expected = self.booked.get((Fence(job_id, row["attempt"]), row["call"]))
            tokens = Usage(
                row["input_tokens"],
                row["output_tokens"],
                row["cache_read_tokens"],
                row["cache_write_tokens"],
            )
            assert tokens == (expected or Usage(input=10))
            assert (row["ending"] == "abandoned") is (expected is None)
        totals = await self.stores.ledger.totals(job_id)
        assert totals.calls == len(closed)
        assert totals.usage.input == sum(row["input_tokens"] for row in closed)
        open_calls = sum(fence.job_id == job_id for fence, _ in set(self.opened)) - len(closed)
        assert open_calls >= 0


def _pick(found: Sequence[Found], which: int) -> Found:
    """Mostly the newest, sometimes an older one."""
    return found[-1 - max(0, which - 4) % len(found)]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=steps)
async def test_the_books_balance_after_every_step(
    stores: Stores, observer: Observer, steps: list[Step]
) -> None:
    await observer.run("TRUNCATE jobs, usage_records, daily_usage CASCADE")
    owner = an_owner()
    jobs = [(await stores.jobs.accept(a_new_job(owner, reserved=RESERVED))).job for _ in range(2)]
    books = Books(stores, observer, jobs, reserved={job.id: RESERVED for job in jobs})

    for step in steps:
        await books.take(step)
