"""Calls that ask for the same thing at the same time share one answer."""

from asyncio import Future, get_running_loop, shield
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from service.supervision import Background

Wanted = TypeVar("Wanted", bound=Hashable)
Answer = TypeVar("Answer")


class SingleFlight(Generic[Wanted, Answer]):
    """Asks at most once at a time for each thing; an error goes to all who wait for it."""

    def __init__(
        self, name: str, ask: Callable[[Wanted], Awaitable[Answer]], background: Background
    ) -> None:
        self._name = name
        self._ask = ask
        self._background = background
        self._answers: dict[Wanted, Future[Answer]] = {}

    async def __call__(self, wanted: Wanted) -> Answer:
        """Return the answer that is on its way, or ask for one."""
        answer = self._answers.get(wanted)
        if answer is None:
            answer = self._answers[wanted] = get_running_loop().create_future()
            self._background.spawn(self._name, self._fetch(wanted, answer))
        # Whoever leaves must not take the answer away from the others.
        return await shield(answer)

    async def _fetch(self, wanted: Wanted, answer: Future[Answer]) -> None:
        try:
            answer.set_result(await self._ask(wanted))
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait for the answer
            answer.set_exception(error)
        finally:
            del self._answers[wanted]
            answer.cancel()
