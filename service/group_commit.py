"""Group commit: what queues while one round trip is in flight goes with the next."""

from asyncio import Future, Task, get_running_loop
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import Context
from typing import Any, Generic, TypeVar

from service.domain.errors import Unavailable
from service.supervision import Background

Item = TypeVar("Item")
Answer = TypeVar("Answer")

CommitMany = Callable[[Sequence[Item]], Awaitable[Sequence[Answer | BaseException]]]


class GroupCommit(Generic[Item, Answer]):
    """Gathers items that become ready together into one call of `commit_many`.

    There is no timer: an idle lane takes an item at once. `commit_many` answers every item in
    order, an exception meaning that this item alone failed; when it raises, all items of that
    call fail. An abandoned item is still committed: only its answer is dropped.
    """

    def __init__(
        self,
        name: str,
        commit_many: "CommitMany[Item, Answer]",
        background: Background,
        *,
        lanes: int = 2,
        max_batch: int = 500,
    ) -> None:
        self._name = name
        self._commit_many = commit_many
        self._background = background
        self._lanes = lanes
        self._free_lanes = lanes
        self._max_batch = max_batch
        self._waiting: deque[tuple[Item, Future[Answer]]] = deque()

    async def submit(self, item: Item) -> Answer:
        """Commit an item together with its neighbours and return its own answer.

        Raises `Unavailable` when the background tasks end before it is known.
        """
        answer: Future[Answer] = get_running_loop().create_future()
        self._waiting.append((item, answer))
        self._open_lane()
        return await answer

    def _open_lane(self) -> None:
        if self._waiting and self._free_lanes:
            self._free_lanes -= 1
            # What it logs is about many jobs, and must not look like whoever's came first.
            lane = self._background.spawn(f"{self._name}:lane", self._run_lane(), context=Context())
            # Not at the end of the lane itself: one cancelled before its first step has no end.
            lane.add_done_callback(self._close_lane)

    def _close_lane(self, lane: "Task[Any]") -> None:
        self._free_lanes += 1
        if not lane.cancelled():
            self._open_lane()
        elif self._free_lanes == self._lanes:
            _fail(self._waiting, Unavailable(self._name))
            self._waiting.clear()

    async def _run_lane(self) -> None:
        while self._waiting:
            size = min(len(self._waiting), self._max_batch)
            await self._commit([self._waiting.popleft() for _ in range(size)])

    async def _commit(self, batch: "list[tuple[Item, Future[Answer]]]") -> None:
        try:
            answers = await self._commit_many([item for item, _ in batch])
            if len(answers) != len(batch):
                raise AssertionError(f"{self._name} answered {len(answers)} of {len(batch)} items")
        except Exception as error:  # noqa: BLE001 - whatever it is, every waiter is told
            _fail(batch, error)
        except BaseException:
            _fail(batch, Unavailable(self._name))
            raise
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                _settle(future, answer)


def _settle(future: "Future[Answer]", answer: Answer | BaseException) -> None:
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _fail(batch: "Iterable[tuple[Item, Future[Answer]]]", error: Exception) -> None:
    for _, future in batch:
        _settle(future, error)
