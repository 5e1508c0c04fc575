"""The upstream's limits per minute: what a call takes of them, and what the next one will take."""

from dataclasses import dataclass, fields

# How much may be taken at once, in minutes of the limit. Limits are also enforced over shorter
# times than a minute, so a whole one in a burst would be refused.
BURST = 1 / 6

_FIRST_OUTPUT = 1500
_LEARNING = 0.2
_DEVIATIONS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Per minute; None where there is no limit or none is known."""

    requests: float | None = None
    input: float | None = None
    output: float | None = None

    def lower_of(self, other: "Rates") -> "Rates":
        """Return the stricter of both limits of each kind."""
        return Rates(**{kind: _lower(getattr(self, kind), getattr(other, kind)) for kind in KINDS})

    def share(self, parts: int) -> "Rates":
        """Return one of so many equal parts."""
        limits = {kind: getattr(self, kind) for kind in KINDS}
        return Rates(**{kind: limit and limit / parts for kind, limit in limits.items()})


KINDS = tuple(field.name for field in fields(Rates))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a call takes of each limit."""

    requests: int = 0
    input: int = 0
    output: int = 0

    def limited_by(self, limits: Rates) -> "Cost":
        """Return what of it counts where these limits hold: nothing of a kind without one."""
        return Cost(**{kind: getattr(self, kind) for kind in _limited(limits)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What an answer of the upstream said of its limits, and what is left of them."""

    limits: Rates
    remaining: Rates


class Forecast:
    """Expects of the next call of a kind what the ones before it took, and somewhat more.

    The cap on output would be far too much: it leaves room for twenty times a usual answer.
    """

    def __init__(self) -> None:
        self._input_ratio = _Average(1.0)
        self._output = _Average(_FIRST_OUTPUT)

    def expect(self, estimated_input: int, max_output: int) -> Cost:
        """Return what to reserve for a call."""
        return Cost(
            requests=1,
            input=max(1, min(estimated_input, int(estimated_input * self._input_ratio.high))),
            output=max(1, min(max_output, int(self._output.high))),
        )

    def learn(self, estimated_input: int, used: Cost) -> None:
        """Take in what a call took that finished."""
        if estimated_input > 0:
            self._input_ratio.add(used.input / estimated_input)
        self._output.add(used.output)


class _Average:
    """An exponentially weighted mean with its mean deviation, as TCP's timer has (RFC 6298)."""

    def __init__(self, guess: float) -> None:
        self._mean = guess
        self._deviation = 0.0
        self._is_guess = True

    @property
    def high(self) -> float:
        return self._mean + _DEVIATIONS * self._deviation

    def add(self, value: float) -> None:
        if self._is_guess:
            self._mean, self._deviation, self._is_guess = value, value / 2, False
            return
        error = value - self._mean
        self._mean += _LEARNING * error
        self._deviation += _LEARNING * (abs(error) - self._deviation)


class TokenBucket:
    """The limits of one process on its own; times in seconds, by whatever clock."""

    def __init__(self, rates: Rates, now: float) -> None:
        self.rates = rates
        self._at = now
        self._levels = {kind: limit * BURST for kind, limit in _limited(rates).items()}

    def take(self, cost: Cost, now: float) -> float:
        """Take the cost and return 0, or return how long to wait before asking again."""
        limits = _limited(self.rates)
        for kind, limit in limits.items():
            level = self._levels[kind] + (now - self._at) * limit / 60
            self._levels[kind] = min(level, max(limit * BURST, self._levels[kind]))
        self._at = now
        wait = max((self._wait(kind, limit, cost) for kind, limit in limits.items()), default=0.0)
        if wait <= 0:
            self.give_back(cost, -1)
        return max(wait, 0.0)

    def give_back(self, cost: Cost, sign: int = 1) -> None:
        """Return what was taken and not used."""
        for kind in self._levels:
            self._levels[kind] += sign * getattr(cost, kind)

    def _wait(self, kind: str, limit: float, cost: Cost) -> float:
        # A call that is larger than the bucket must pass when the bucket is full.
        needed: float = min(getattr(cost, kind), limit * BURST)
        return (needed - self._levels[kind]) * 60 / limit


def _limited(rates: Rates) -> dict[str, float]:
    limits = {kind: getattr(rates, kind) for kind in KINDS}
    return {kind: limit for kind, limit in limits.items() if limit}


def _lower(one: float | None, other: float | None) -> float | None:
    known = [limit for limit in (one, other) if limit is not None]
    return min(known, default=None)
