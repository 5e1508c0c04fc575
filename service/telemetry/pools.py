"""How many connections a process has, read whenever somebody asks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from service.telemetry.metrics import POOL_CONNECTIONS


class PoolUse(NamedTuple):
    """Connections of a pool: those lent, those that rest, and the most there may be."""

    used: int
    idle: int
    most: int


@contextmanager
def exported_pool(name: str, look: Callable[[], PoolUse]) -> Iterator[None]:
    """Export the use of a pool inside this block."""

    def number(state: str) -> float:
        return float(getattr(look(), state))

    for state in PoolUse._fields:
        POOL_CONNECTIONS.labels(pool=name, state=state).set_function(partial(number, state))
    try:
        yield
    finally:
        for state in PoolUse._fields:
            POOL_CONNECTIONS.remove(name, state)
