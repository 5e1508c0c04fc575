"""Whether a job may begin another iteration on its owner's tokens of the day."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDay:
    """A day's tokens of one user, as they stand; None is no limit.

    `expected` is what one iteration of the job was planned with; `seconds_left` is the time until
    midnight UTC.
    """

    limit: int | None
    used: int
    expected: int
    seconds_left: float

    @property
    def has_room(self) -> bool:
        """Whether an iteration fits; the first of a day always does, so that no job waits for ever.

        What other jobs have reserved does not count: whoever comes last, waits.
        """
        return self.limit is None or not self.used or self.used + self.expected <= self.limit
