"""When a failed attempt may try again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Full-jitter exponential back-off under a budget; times in seconds.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    max_errors: int = 3
    base: float = 1.0
    cap: float = 60.0
    max_retry_after: float = 300.0
    operator: float = 300.0

    def delay(self, error_count: int, jitter: float, retry_after: float | None = None) -> float:
        """Seconds until the next start, after the `error_count`-th error; `jitter` is in [0, 1).

        An upstream's Retry-After is a floor, bounded by `max_retry_after`.
        """
        backoff = jitter * min(self.cap, self.base * 2.0 ** min(error_count, 32))
        if retry_after is None or retry_after != retry_after:  # NaN from a garbage header
            return backoff
        return max(backoff, min(max(retry_after, 0.0), self.max_retry_after))

    def delay_for_operator(self, jitter: float) -> float:
        """Seconds until the next start, after an error that somebody has to mend first.

        One to two times `operator`: every job meets such an error, and they must not all come
        back at once.
        """
        return self.operator * (1.0 + jitter)
