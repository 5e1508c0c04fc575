"""How an attempt leaves an agent between two calls."""

from service.domain.outcome import OutOfQuota, Stopped


class StopRequested(BaseException):
    """The attempt ends here, at a good moment, with this outcome.

    Not an `Exception`: an agent that catches too much must not swallow it.
    """

    def __init__(self, outcome: Stopped | OutOfQuota) -> None:
        super().__init__()
        self.outcome = outcome
