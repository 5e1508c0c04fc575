"""The maintenance loops that every process runs."""

from collections.abc import Sequence

from service.bootstrap.connections import Connections
from service.maintenance.pruner import Pruner
from service.maintenance.reconciler import Reconciler
from service.maintenance.relay import Relay
from service.settings import Settings
from service.streams.leftovers import RedisLeftovers
from service.streams.pending import RedisPending
from service.supervision import Periodic

# How long a consumer must have been silent: so many seconds, and so many leases.
_SURELY_DEAD = 60.0
_SURELY_DEAD_LEASES = 4


def build_relay_loop(settings: Settings, connections: Connections) -> Periodic:
    """Build the loop that gives queued jobs their entries."""
    relay = Relay(
        connections.upkeep,
        connections.attempts,
        connections.entries,
        user_in_stream=settings.user_in_stream,
    )
    return Periodic("relay", relay.run_once, settings.poll_interval)


def build_maintenance_loops(settings: Settings, connections: Connections) -> Sequence[Periodic]:
    """Build all loops, the relay's first."""
    relay_loop = build_relay_loop(settings, connections)
    reconciler = Reconciler(
        connections.upkeep,
        connections.attempts,
        connections.events,
        RedisPending(connections.commands),
        lease=settings.lease,
        max_crashes=settings.max_crashes,
        event_retention=settings.event_retention,
        wake_relay=relay_loop.wake,
    )
    pruner = Pruner(
        connections.retention,
        RedisLeftovers(connections.commands),
        job_days=settings.retention_days,
        ledger_days=settings.ledger_retention_days,
        dead_after=max(_SURELY_DEAD, _SURELY_DEAD_LEASES * settings.lease),
    )
    return (
        relay_loop,
        Periodic("reconcile", reconciler.run_once, settings.reconcile_interval),
        Periodic("prune", pruner.run_once, settings.prune_interval),
    )
