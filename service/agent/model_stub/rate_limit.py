"""The limits per minute that the server enforces, as Anthropic describes its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic

from service.domain.upstream import KINDS, Cost, Rates

_HEADERS: Mapping[str, str] = {
    "requests": "requests",
    "input": "input-tokens",
    "output": "output-tokens",
}
# Fifteen seconds' worth at once: stricter than a whole minute's, which a short test never uses up.
_BURST = 1 / 4


@dataclass
class RateLimiter:
    """Token buckets that refill steadily, one of each kind per model.

    A call is admitted while anything is left of each; what it takes beyond that, the next ones
    wait for.
    """

    rates: Rates
    _levels: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def wait(self, model: str) -> float:
        """Return the seconds until a call may be made, 0 if it may now."""
        now = monotonic()
        waits = [
            (1 - self._level(model, kind, now)) * 60 / limit
            for kind, limit in self._limited().items()
        ]
        return max((0.0, *waits))

    def charge(self, model: str, cost: Cost) -> None:
        """Take what was used, if need be more than there is."""
        now = monotonic()
        for kind in self._limited():
            level = self._level(model, kind, now) - getattr(cost, kind)
            self._levels[model, kind] = (level, now)

    def headers(self, model: str) -> dict[str, str]:
        """Say what the limits are and what is left of them."""
        now, headers = monotonic(), {}
        for kind, limit in self._limited().items():
            name = f"anthropic-ratelimit-{_HEADERS[kind]}"
            headers[f"{name}-limit"] = f"{limit:.0f}"
            headers[f"{name}-remaining"] = f"{max(0.0, self._level(model, kind, now)):.0f}"
        return headers

    def _level(self, model: str, kind: str, now: float) -> float:
        limit = self._limited()[kind]
        level, at = self._levels.get((model, kind), (limit * _BURST, now))
        return min(limit * _BURST, level + (now - at) * limit / 60)

    def _limited(self) -> dict[str, float]:
        limits = {kind: getattr(self.rates, kind) for kind in KINDS}
        return {kind: limit for kind, limit in limits.items() if limit}
