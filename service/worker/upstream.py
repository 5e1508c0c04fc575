"""Lets a call pass when it is its turn by the upstream's limits, and settles what it took."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from service.domain.errors import FailureKind, ModelFailure, Unavailable
from service.domain.upstream import KINDS, Cost, Forecast, Observed, Rates, TokenBucket
from service.domain.usage import UsageMeter, cost_of
from service.ports.model import Model, ModelRequest
from service.ports.upstream import Demand, Settlement, Turn, UpstreamBudget
from service.supervision import Background
from service.telemetry.logs import get_log
from service.telemetry.metrics import (
    UPSTREAM_CORRECTIONS_LOST,
    UPSTREAM_LIMIT,
    UPSTREAM_PAUSES,
    UPSTREAM_TURNS_ALONE,
    UPSTREAM_USED,
    UPSTREAM_WAIT_SECONDS,
    UPSTREAM_WAITING,
)

_log = get_log(__name__)

_LONGEST_SLEEP = 1.0
_SHORTEST_SLEEP = 0.01
_DEFAULT_PAUSE = 5.0
_LONGEST_PAUSE = 300.0
# Anthropic's lowest limits, in ten parts: what a worker may do that cannot ask anybody.
_ASSUMED = Rates(requests=50, input=30_000, output=8_000).share(10)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTerms:
    """The configured limits per minute, and how many seconds one call may wait for its turn."""

    limits: Rates = field(default_factory=Rates)
    max_wait: float = 300.0


class UpstreamGate:
    """One worker's way to the budget of all; without Redis, a share of the limits last known."""

    def __init__(
        self, budget: UpstreamBudget, background: Background, terms: UpstreamTerms
    ) -> None:
        self._budget = budget
        self._background = background
        self._terms = terms
        self._forecasts: dict[tuple[str, str], Forecast] = {}
        self._last: dict[str, Turn] = {}
        self._alone: dict[str, TokenBucket] = {}

    @asynccontextmanager
    async def turn(
        self,
        model: Model,
        request: ModelRequest,
        user: str,
        while_waiting: Callable[[float], Awaitable[None]],
    ) -> AsyncIterator[UsageMeter]:
        """Make one call inside this block, with the meter given; it may take long to enter.

        `while_waiting` is told how many seconds are left, again and again, and may raise. Raises
        `ModelFailure` after the longest wait.
        """
        meter = UsageMeter()
        if not model.is_limited:
            yield meter
            return
        kind = (request.model, request.purpose)
        forecast = self._forecasts.setdefault(kind, Forecast())
        estimated = model.estimate_input_tokens(request)
        demand = Demand(
            model=request.model,
            user=user,
            ticket=secrets.token_hex(8),
            cost=forecast.expect(estimated, request.max_output_tokens),
            configured=self._terms.limits,
        )
        turn, alone = await self._wait(demand, while_waiting)
        reserved = demand.cost.limited_by(turn.limits)
        meter.on_limits = lambda observed: self._observe(request.model, observed)
        pause = 0.0
        try:
            yield meter
            forecast.learn(estimated, cost_of(meter.usage))
        except ModelFailure as failure:
            pause = _pause(failure)
            raise
        finally:
            self._settle(request.model, reserved, alone, cost_of(meter.usage), pause)

    async def _wait(
        self, demand: Demand, while_waiting: Callable[[float], Awaitable[None]]
    ) -> tuple[Turn, TokenBucket | None]:
        """Return the call's turn once it has come; the bucket if this worker decided alone."""
        started = monotonic()
        try:
            with UPSTREAM_WAITING.track_inprogress():
                while True:
                    turn, alone = await self._ask(demand)
                    if turn.granted:
                        return turn, alone
                    if monotonic() - started > self._terms.max_wait:
                        raise _overdue(self._terms.max_wait, turn.wait)
                    await while_waiting(turn.wait)
                    # Nobody signals a turn: it comes with time, and asking keeps the place.
                    await asyncio.sleep(_sleep(turn.wait))
        except BaseException:
            self._correct("leave", self._budget.leave(demand.model, demand.ticket))
            raise
        finally:
            UPSTREAM_WAIT_SECONDS.labels(model=demand.model).observe(monotonic() - started)

    async def _ask(self, demand: Demand) -> tuple[Turn, TokenBucket | None]:
        try:
            turn = await self._budget.reserve(demand)
        except Unavailable as error:
            return self._decide_alone(demand, error)
        self._alone.pop(demand.model, None)
        self._last[demand.model] = turn
        for kind in KINDS:
            limit = getattr(turn.limits, kind)
            UPSTREAM_LIMIT.labels(model=demand.model, kind=kind).set(limit or 0)
        return turn, None

    def _decide_alone(self, demand: Demand, error: Unavailable) -> tuple[Turn, TokenBucket]:
        last = self._last.get(demand.model)
        is_known = last and last.limits != Rates()
        share = last.limits.share(max(1, last.peers)) if last and is_known else _ASSUMED
        rates = share.lower_of(demand.configured)
        bucket = self._alone.get(demand.model)
        if bucket is None:
            _log.warning("upstream_budget_away", model=demand.model, error=str(error))
            bucket = self._alone[demand.model] = TokenBucket(rates, monotonic())
        wait = bucket.take(demand.cost, monotonic())
        if not wait:
            UPSTREAM_TURNS_ALONE.labels(model=demand.model).inc()
        return Turn(granted=not wait, wait=wait, limits=rates, peers=1), bucket

    def _observe(self, model: str, observed: Observed) -> None:
        self._correct("observe", self._budget.observe(model, observed))

    def _settle(
        self, model: str, reserved: Cost, alone: TokenBucket | None, used: Cost, pause: float
    ) -> None:
        for kind in KINDS:
            UPSTREAM_USED.labels(model=model, kind=kind).inc(getattr(used, kind))
        if pause:
            _log.warning("upstream_pause", model=model, seconds=pause)
            UPSTREAM_PAUSES.labels(model=model).inc()
        if alone is not None:
            alone.give_back(reserved)
            alone.give_back(used, -1)
            reserved = Cost()
        settlement = Settlement(model=model, reserved=reserved, used=used, pause=pause)
        self._correct("settle", self._budget.settle(settlement))

    def _correct(self, what: str, writing: Coroutine[Any, Any, None]) -> None:
        """Let it happen beside the work; a lost correction leaves a little of the limit unused."""

        async def write() -> None:
            try:
                await writing
            except Unavailable:
                UPSTREAM_CORRECTIONS_LOST.labels(what=what).inc()

        self._background.spawn("upstream_budget", write())


def _sleep(wait: float) -> float:
    # The jitter keeps those who wait for the same moment from asking all at once.
    bounded = min(max(wait, _SHORTEST_SLEEP), _LONGEST_SLEEP)
    return bounded * (0.75 + random.random() / 4)  # noqa: S311 - jitter, no secret


def _pause(failure: ModelFailure) -> float:
    if not failure.is_overload:
        return 0.0
    return min(failure.retry_after or _DEFAULT_PAUSE, _LONGEST_PAUSE)


def _overdue(waited: float, left: float) -> ModelFailure:
    return ModelFailure(
        "MODEL_UNAVAILABLE",
        f"the model's rate limits left no room for this call within {waited:g} s",
        kind=FailureKind.TRANSIENT,
        retry_after=left,
    )
