"""Request rates by the generic cell rate algorithm (ITU-T I.371), in whole microseconds."""

from dataclasses import dataclass
from typing import Final

_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePolicy:
    """At most `quota` requests at once, and no more than that per `window` seconds for long."""

    name: str
    quota: int
    window: int = 60

    @property
    def interval_us(self) -> int:
        """What one request takes up of the window."""
        return self.window * _SECOND // max(1, self.quota)

    @property
    def burst_us(self) -> int:
        """The largest backlog that requests may leave behind."""
        return self.interval_us * self.quota


@dataclass(frozen=True, slots=True, kw_only=True)
class RateVerdict:
    """Whether a request may pass, and how many more could follow at once.

    After `reset` seconds there is room for one more than that.
    """

    policy: RatePolicy
    allowed: bool
    remaining: int
    reset: float


def take(policy: RatePolicy, backlog_us: int) -> tuple[bool, int]:
    """Return whether a request fits on top of a backlog, and the backlog afterwards."""
    backlog = min(max(0, backlog_us), policy.burst_us)
    after = backlog + policy.interval_us
    return (True, after) if after <= policy.burst_us else (False, backlog)


def verdict(policy: RatePolicy, allowed: bool, backlog_us: int) -> RateVerdict:
    """Say what a backlog, as it is after the decision, means to the caller."""
    remaining = (policy.burst_us - backlog_us) // policy.interval_us
    grows_at = (policy.quota - remaining - 1) * policy.interval_us
    return RateVerdict(
        policy=policy,
        allowed=allowed,
        remaining=remaining,
        reset=(backlog_us - grows_at) / _SECOND,
    )
