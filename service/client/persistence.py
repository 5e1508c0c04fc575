"""How long a client goes on trying while the service does not answer."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from time import monotonic

from service.client.errors import ApiProblem, ClientFailure, Unreachable

_LONGEST_PAUSE = 30.0


class Persistence:
    """Waits between failures in a row, and gives up after `within` seconds of them.

    A service that was never there is not waited for: a first refused connection is final.
    """

    def __init__(
        self,
        within: float,
        pause: float,
        worth_retrying: Collection[int],
        on_trouble: Callable[[str], None],
        *,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.pause = pause
        self._within = within
        self._worth_retrying = worth_retrying
        self._on_trouble = on_trouble
        self._clock = clock
        self._sleep = sleep
        self._failures = 0
        self._deadline = 0.0

    def succeeded(self) -> None:
        """Forget the failures so far."""
        self._failures = 0

    async def wait_after(self, failure: ClientFailure, *, has_answered: bool) -> None:
        """Return when to try again, or raise the failure if that is no use."""
        now = self._clock()
        if not self._failures:
            self._deadline = now + self._within
        delay = self._delay(failure)
        if not self._may_pass(failure, has_answered) or now + delay > self._deadline:
            raise failure
        if not self._failures:
            self._on_trouble(f"{failure}; trying again")
        self._failures += 1
        await self._sleep(delay)

    def _may_pass(self, failure: ClientFailure, has_answered: bool) -> bool:
        if isinstance(failure, Unreachable):
            return failure.was_sent or has_answered
        return isinstance(failure, ApiProblem) and failure.status in self._worth_retrying

    def _delay(self, failure: ClientFailure) -> float:
        asked = failure.retry_after if isinstance(failure, ApiProblem) else None
        backoff = min(_LONGEST_PAUSE, self.pause * 2.0 ** min(self._failures, 10))
        jittered = backoff * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        return max(asked or 0.0, jittered)
