"""Counts requests with all other processes or, while Redis is away, alone."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Final

from aiohttp import web

from service.domain.errors import Unavailable
from service.domain.rate_limit import RatePolicy, RateVerdict, take, verdict
from service.ports.rate_limit import RateLimiter
from service.telemetry.logs import get_log
from service.telemetry.metrics import RATES_JUDGED_ALONE

_log = get_log(__name__)

_SECOND_US: Final = 1_000_000


class Rates:
    """Never fails: without Redis each process grants the whole of every policy by itself.

    While it is away one request every `ask_again` seconds finds out whether it is back, so that
    a Redis that hangs does not hold up all of them.
    """

    def __init__(
        self,
        shared: RateLimiter,
        *,
        clock: Callable[[], float] = monotonic,
        ask_again: float = 1.0,
        most_remembered: int = 10_000,
    ) -> None:
        self._shared = shared
        self._clock = clock
        self._ask_again = ask_again
        self._most_remembered = most_remembered
        self._away_until: float | None = None
        self._busy_until: OrderedDict[tuple[str, tuple[str, ...]], float] = OrderedDict()

    async def take(self, policy: RatePolicy, holder: tuple[str, ...]) -> RateVerdict:
        """Count a request if there is room for it."""
        if self._away_until is not None:
            if self._clock() < self._away_until:
                return self._judge_alone(policy, holder)
            self._away_until = self._clock() + self._ask_again
        try:
            told = await self._shared.take(policy, holder)
        except Unavailable as error:
            if self._away_until is None:
                cause = repr(error.__cause__)
                _log.warning("rates_judged_alone", error=str(error), cause=cause)
            self._away_until = self._clock() + self._ask_again
            return self._judge_alone(policy, holder)
        self._away_until = None
        return told

    def _judge_alone(self, policy: RatePolicy, holder: tuple[str, ...]) -> RateVerdict:
        RATES_JUDGED_ALONE.inc()
        now, key = self._clock(), (policy.name, holder)
        backlog = self._busy_until.pop(key, now) - now
        allowed, backlog_us = take(policy, round(backlog * _SECOND_US))
        self._busy_until[key] = now + backlog_us / _SECOND_US
        if len(self._busy_until) > self._most_remembered:
            self._busy_until.popitem(last=False)
        return verdict(policy, allowed, backlog_us)


RATES: Final = web.AppKey("rates", Rates)
