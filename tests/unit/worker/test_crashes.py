"""Crashes at every point between a call and its checkpoint."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.attempt import Fence
from service.supervision import Background
from tests.fixtures.models import ScriptedModel
from tests.unit.domain.jobs import JOB
from tests.unit.worker.ledger import MemoryLedger
from tests.unit.worker.paying import an_attempt, pay


@settings(deadline=None, max_examples=60)
@given(crashes=st.lists(st.integers(min_value=0, max_value=14), max_size=4))
def test_whatever_crashes_no_finished_call_is_made_again(crashes: list[int]) -> None:
    asyncio.run(survives(crashes))


async def survives(crashes: list[int]) -> None:
    """Kill each attempt at its n-th touch of the ledger or the model, then let one finish."""
    ledger, calls = MemoryLedger(), dict.fromkeys("abc", 0)
    for number, crash_at in enumerate([*crashes, None], start=1):
        ledger.current = {Fence(JOB.id, number)}
        background, left = Background(), [crash_at]
        attempt = an_attempt(CrashingLedger(ledger, left), background, number=number)
        model = CrashingModel(left, ledger)
        try:
            for step in calls:
                await pay(attempt, model, step)
        except Crash:
            assert crash_at is not None
        await background.cancel()
        for step in model.called:
            calls[step] += 1

    assert set(ledger.checkpoints) == set(calls)
    assert sum(calls.values()) <= len(calls) + len(crashes)


class Crash(BaseException):
    """The process dies."""


def step_towards_crash(left: list[int | None]) -> None:
    if left[0] is not None:
        left[0] -= 1
        if left[0] < 0:
            raise Crash


class CrashingLedger(MemoryLedger):
    """The same rows, touched by a process that dies before or after one of its writes."""

    def __init__(self, real: MemoryLedger, left: list[int | None]) -> None:
        super().__init__(real.current, real.rows, real.checkpoints, real.log)
        self.left = left

    def _fail_before(self) -> None:
        step_towards_crash(self.left)

    async def _answer(self, answer: bool) -> bool:
        step_towards_crash(self.left)
        return answer


class CrashingModel(ScriptedModel):
    """Checks that what it is asked was never answered before; its process may die over it."""

    def __init__(self, left: list[int | None], ledger: MemoryLedger) -> None:
        super().__init__(before_reply=self._before_reply)
        self._left = left
        self._ledger = ledger

    def _before_reply(self) -> None:
        assert self.called[-1] not in self._ledger.checkpoints
        step_towards_crash(self._left)
