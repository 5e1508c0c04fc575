"""Every kind of fault by its name."""

from collections.abc import Mapping
from typing import Final

from tests.chaos.faults import (
    client_faults,
    everything,
    failpoints,
    model_faults,
    network,
    postgres_faults,
    processes,
    redis_faults,
)
from tests.chaos.faults.injury import Kind

KINDS: Final[Mapping[str, Kind]] = {
    **processes.KINDS,
    **redis_faults.KINDS,
    **postgres_faults.KINDS,
    **network.KINDS,
    **model_faults.KINDS,
    **client_faults.KINDS,
    **failpoints.KINDS,
    **everything.KINDS,
}
ROOMS: Final = {name: kind.room for name, kind in KINDS.items()}
