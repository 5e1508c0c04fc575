"""What time it is, by Postgres."""

from datetime import datetime, timedelta
from time import monotonic

from service.domain.attempt import Claim


class ClaimClock:
    """Postgres' clock as of a claim, carried on by this process: no wall clock, however wrong.

    Raises `ValueError` for a claim that was not judged.
    """

    def __init__(self, claim: Claim) -> None:
        if claim.judged_at is None:
            raise ValueError("only a judged claim knows the time")
        self._judged_at = claim.judged_at
        self._started = monotonic()

    def now(self) -> datetime:
        """Return the time, UTC."""
        return self._judged_at + timedelta(seconds=monotonic() - self._started)

    def seconds_until(self, moment: datetime) -> float:
        """Return how far away a moment is, negative when it has passed."""
        return (moment - self.now()).total_seconds()
