"""Background tasks: nothing dies unseen, nothing outlives its owner unseen."""

import asyncio
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from time import monotonic
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from service import supervision
from service.domain.errors import Unavailable
from service.supervision import Background, Periodic, Wakeup, retry_while_unavailable
from service.telemetry.logs import get_log
from service.telemetry.metrics import REGISTRY
from tests.fixtures.waiting import eventually

Logs = list[MutableMapping[str, Any]]

AT_ONCE = 0.01
LONG = 30.0


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Logs]:
    """What supervision logs, whoever has configured the logs before."""
    monkeypatch.setattr(supervision, "_log", get_log("supervision"))
    with capture_logs() as logs:
        yield logs


def failures(loop: str) -> float:
    return REGISTRY.get_sample_value("usa_loop_failures_total", {"loop": loop}) or 0.0


async def crash(error: BaseException) -> NoReturn:
    raise error


async def for_ever() -> None:
    await asyncio.Event().wait()


# --- Background ------------------------------------------------------------------------------


async def test_a_crash_is_logged_counted_and_reported(logged: Logs) -> None:
    reported: list[str] = []
    background = Background(on_crash=lambda: reported.append("crash"))
    before = failures("reader")

    error = ValueError("broken")
    background.spawn("reader:7", crash(error))
    assert await background.drain(LONG)

    assert reported == ["crash"]
    assert failures("reader") == before + 1
    assert [(log["event"], log["task"], log["exc_info"]) for log in logged] == [
        ("background_task_crashed", "reader:7", error)
    ]
    assert len(background) == 0


async def test_an_end_or_a_cancellation_is_no_crash(logged: Logs) -> None:
    reported: list[str] = []
    background = Background(on_crash=lambda: reported.append("crash"))

    background.spawn("ends", asyncio.sleep(0))
    background.spawn("is cancelled", for_ever()).cancel()

    assert await background.drain(LONG)
    assert (reported, logged) == ([], [])


async def test_a_task_that_dies_of_a_cancellation_nobody_asked_for_has_crashed(
    logged: Logs,
) -> None:
    reported: list[str] = []
    background = Background(on_crash=lambda: reported.append("crash"))

    background.spawn("reader", crash(asyncio.CancelledError()))
    assert await background.drain(LONG)

    assert reported == ["crash"]
    assert [log["event"] for log in logged] == ["background_task_crashed"]


async def test_draining_waits_for_all_and_says_whether_they_ended(background: Background) -> None:
    release = asyncio.Event()
    background.spawn("slow", release.wait())

    assert not await background.drain(AT_ONCE)
    release.set()
    assert await background.drain(LONG)
    assert await background.drain(0)


async def test_draining_waits_for_tasks_started_meanwhile(background: Background) -> None:
    ended: list[int] = []

    async def chain(left: int) -> None:
        await asyncio.sleep(0)
        if left:
            background.spawn("link", chain(left - 1))
        ended.append(left)

    background.spawn("link", chain(3))
    assert await background.drain(LONG)
    assert ended == [3, 2, 1, 0]


async def test_cancelling_ends_every_task_and_those_they_start_on_their_way_out(
    background: Background,
) -> None:
    ended: list[str] = []

    async def stubborn() -> None:
        try:
            await for_ever()
        finally:
            background.spawn("late", last_words())

    async def last_words() -> None:
        try:
            await for_ever()
        finally:
            ended.append("late")

    background.spawn("first", stubborn())
    await asyncio.sleep(0)
    await background.cancel(within=LONG)
    assert ended == ["late"]
    assert len(background) == 0


async def test_cancelling_gives_up_on_a_task_that_does_not_end_and_names_it(
    background: Background, logged: Logs
) -> None:
    let_go = asyncio.Event()

    async def deaf() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    background.spawn("deaf", deaf())
    background.spawn("obedient", for_ever())
    await asyncio.sleep(0)

    started = monotonic()
    await background.cancel(within=0.1)
    assert monotonic() - started < 5
    assert [(log["event"], log["task"]) for log in logged] == [
        ("background_task_did_not_end", "deaf")
    ]
    let_go.set()
    assert await background.drain(LONG)


async def test_a_task_whose_driver_swallows_a_cancellation_is_cancelled_again(
    background: Background,
) -> None:
    async def distracted() -> None:
        with suppress(asyncio.CancelledError):
            await for_ever()
        await for_ever()

    task = background.spawn("distracted", distracted())
    await asyncio.sleep(0)
    await background.cancel(within=LONG)
    assert task.cancelled()


async def test_some_tasks_can_be_cancelled_and_the_others_go_on(background: Background) -> None:
    ending = background.spawn("ending", for_ever())
    staying = background.spawn("staying", for_ever())
    await asyncio.sleep(0)
    await background.cancel([ending], within=LONG)
    assert ending.cancelled()
    assert not staying.done()
    assert len(background) == 1


async def test_cancelling_without_patience_still_cancels(background: Background) -> None:
    task = background.spawn("waits", for_ever())
    await background.cancel(within=0)
    await asyncio.wait({task}, timeout=LONG)
    assert task.cancelled()


# --- Wakeup ----------------------------------------------------------------------------------


async def test_a_wait_ends_when_woken_and_says_so() -> None:
    wakeup = Wakeup()
    async with asyncio.timeout(LONG):
        waiting = asyncio.create_task(wakeup.wait(LONG * 2))
        await asyncio.sleep(0)
        wakeup()
        assert await waiting is True


async def test_a_wake_up_before_the_wait_is_not_lost_and_counts_once() -> None:
    wakeup = Wakeup()
    wakeup()
    wakeup()
    assert await wakeup.wait(LONG) is True
    assert await wakeup.wait(AT_ONCE) is False


# --- Periodic --------------------------------------------------------------------------------


class Rounds:
    """Counts rounds, and fails as long as it is told to."""

    def __init__(self, *errors: BaseException) -> None:
        self.done = 0
        self.times: list[float] = []
        self._errors = list(errors)

    async def run_once(self) -> None:
        self.done += 1
        self.times.append(monotonic())
        if self._errors:
            raise self._errors.pop(0)


async def test_a_loop_starts_at_once_and_repeats(background: Background) -> None:
    rounds = Rounds()
    loop = Periodic("rounds", rounds.run_once, AT_ONCE)
    background.spawn("rounds", loop.run())
    await eventually(lambda: rounds.done >= 3)


async def test_a_loop_runs_again_as_soon_as_it_is_woken(background: Background) -> None:
    rounds = Rounds()
    loop = Periodic("rounds", rounds.run_once, LONG)
    background.spawn("rounds", loop.run())
    await eventually(lambda: rounds.done == 1)

    loop.wake()
    await eventually(lambda: rounds.done == 2)


async def test_a_loop_survives_every_error_and_counts_it(
    background: Background, logged: Logs
) -> None:
    before = failures("fragile")
    cause = Unavailable("Redis")
    cause.__cause__ = OSError("connection refused")
    rounds = Rounds(ValueError("odd"), cause, asyncio.CancelledError())
    loop = Periodic("fragile", rounds.run_once, AT_ONCE)
    background.spawn("fragile", loop.run())

    await eventually(lambda: rounds.done >= 5)
    assert failures("fragile") == before + 3
    assert [log["event"] for log in logged] == ["loop_round_failed"] * 3
    assert "connection refused" in logged[1]["error"]


async def test_cancelling_a_loop_ends_it_in_the_middle_of_a_round(background: Background) -> None:
    loop = Periodic("stuck", for_ever, LONG)
    task = background.spawn("stuck", loop.run())
    await asyncio.sleep(0)
    await background.cancel(within=LONG)
    assert task.cancelled()


async def test_a_failing_loop_that_is_woken_all_the_time_does_not_spin(
    background: Background,
) -> None:
    times: list[float] = []

    async def fail_and_wake() -> None:
        times.append(monotonic())
        loop.wake()
        if len(times) == 5:
            loop.stop()
        raise Unavailable("Postgres")

    loop = Periodic("eager", fail_and_wake, AT_ONCE)
    background.spawn("eager", loop.run())
    assert await background.drain(LONG)
    assert len(times) == 5
    assert times[-1] - times[0] >= 0.15


def test_pauses_grow_with_failures_within_bounds_and_shrink_after_a_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.random", lambda: 1.0)
    loop = Periodic("rounds", for_ever, 1.0, max_backoff=10.0)
    pauses = []
    for loop._failures in (0, 1, 2, 3, 4, 10):
        pauses.append(loop._pause())
    assert pauses == [1, 2, 4, 8, 10, 10]
    monkeypatch.setattr("random.random", lambda: 0.0)
    assert loop._pause() == 1.0


@pytest.mark.parametrize("error", [None, ValueError("odd")])
async def test_stopping_a_loop_lets_the_round_under_way_end(
    background: Background, error: Exception | None
) -> None:
    started, release, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def one_round() -> None:
        started.set()
        await release.wait()
        ended.set()
        if error is not None:
            raise error

    loop = Periodic("rounds", one_round, LONG)
    task = background.spawn("rounds", loop.run())
    await started.wait()
    loop.stop()
    await asyncio.sleep(0)
    assert not task.done()

    release.set()
    async with asyncio.timeout(LONG):
        await task
    assert ended.is_set()


async def test_stopping_a_waiting_loop_ends_it_at_once(background: Background) -> None:
    rounds = Rounds()
    loop = Periodic("rounds", rounds.run_once, LONG * 10)
    background.spawn("rounds", loop.run())
    await eventually(lambda: rounds.done == 1)
    loop.stop()
    assert await background.drain(LONG)
    assert rounds.done == 1


async def test_a_loop_stopped_before_it_starts_does_nothing() -> None:
    rounds = Rounds()
    loop = Periodic("rounds", rounds.run_once, LONG)
    loop.stop()
    await loop.run()
    assert rounds.done == 0


# --- retry_while_unavailable -----------------------------------------------------------------


def answering(*answers: int | Exception) -> tuple[Callable[[], Any], list[int]]:
    left, calls = list(answers), [0]

    async def act() -> int:
        calls[0] += 1
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return act, calls


async def test_a_call_is_repeated_until_its_server_answers(logged: Logs) -> None:
    before = REGISTRY.get_sample_value("usa_retries_total", {"what": "finish"}) or 0.0
    act, calls = answering(Unavailable("Postgres"), Unavailable("Postgres"), 42)
    assert await retry_while_unavailable("finish", act) == 42
    assert calls == [3]
    assert REGISTRY.get_sample_value("usa_retries_total", {"what": "finish"}) == before + 2
    assert [log["event"] for log in logged] == ["retrying_while_unavailable"]


async def test_patience_bounds_how_long_a_call_is_repeated() -> None:
    last = Unavailable("Postgres")
    act, calls = answering(last)
    started = monotonic()
    with pytest.raises(Unavailable) as raised:
        await retry_while_unavailable("finish", act, patience=0.3)
    assert raised.value is last
    assert monotonic() - started < 3
    assert calls[0] > 1


async def test_without_patience_a_call_is_made_once() -> None:
    act, calls = answering(Unavailable("Postgres"))
    with pytest.raises(Unavailable):
        await retry_while_unavailable("finish", act, patience=0)
    assert calls == [1]


async def test_any_other_error_is_not_repeated() -> None:
    act, calls = answering(ValueError("odd"))
    with pytest.raises(ValueError, match="odd"):
        await retry_while_unavailable("finish", act)
    assert calls == [1]
