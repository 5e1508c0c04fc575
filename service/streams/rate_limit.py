"""Request rates in Redis: one count for all processes."""

from asyncio import timeout

from redis.exceptions import RedisError

from service.domain.errors import Unavailable
from service.domain.rate_limit import RatePolicy, RateVerdict, verdict
from service.streams import keys
from service.streams.connection import Client, redis_errors
from service.streams.scripts import take_request


class RedisRateLimiter:
    """Counts by Redis' clock, so that all processes agree.

    `once` must not repeat commands: a request would count twice. `patience` is how many seconds
    a request may be held up by a Redis that hangs.
    """

    def __init__(self, once: Client, *, patience: float = 0.5) -> None:
        self._once = once
        self._patience = patience

    async def take(self, policy: RatePolicy, holder: tuple[str, ...]) -> RateVerdict:
        """Count a request if there is room for it; raises `Unavailable`, within moments.

        That is whatever Redis answers instead: one that forbids this must not stop all requests.
        """
        try:
            async with timeout(self._patience):
                with redis_errors():
                    allowed, backlog_us = await take_request(
                        self._once,
                        rate=keys.rate(policy.name, holder),
                        interval_us=policy.interval_us,
                        burst_us=policy.burst_us,
                    )
        except TimeoutError:
            raise Unavailable("Redis") from None
        except RedisError as error:
            raise Unavailable("Redis") from error
        return verdict(policy, bool(allowed), backlog_us)
