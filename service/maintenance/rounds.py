"""What rounds of maintenance have in common: nothing in them stands in the way of the rest."""

from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import TypeAlias

from service.domain.errors import Unavailable
from service.telemetry.logs import get_log

_log = get_log(__name__)

Step: TypeAlias = Callable[[], Awaitable[int]]


async def take_all(steps: Iterable[Step]) -> int:
    """Take one step after the other and return the sum of what they did.

    The first error of a step is raised after the last one; only `Unavailable` ends a round.
    """
    done, failures = 0, []
    for step in steps:
        try:
            done += await step()
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - the other steps have work to do as well
            # Not all of them are raised: an outage in a later step would hide even the first.
            _log.error("round_step_failed", error=repr(error))
            failures.append(error)
    if failures:
        raise failures[0]
    return done


async def in_batches(act: Callable[[int], Awaitable[int]], size: int, *, until: float) -> int:
    """Act until a batch is not full, or until the monotonic clock says that time is up."""
    total = done = await act(size)
    while done >= size and monotonic() < until:
        done = await act(size)
        total += done
    return total
