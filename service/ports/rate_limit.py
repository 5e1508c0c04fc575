"""How often somebody may call, counted by all processes together."""

from typing import Protocol

from service.domain.rate_limit import RatePolicy, RateVerdict


class RateLimiter(Protocol):
    """Counts requests per policy and holder, who may be named by several parts."""

    async def take(self, policy: RatePolicy, holder: tuple[str, ...]) -> RateVerdict:
        """Count a request if there is room for it; raises `Unavailable`, within moments."""
        ...
