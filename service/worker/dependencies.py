"""What a worker and its attempts need, built once by bootstrap."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.retry import RetryPolicy
from service.ports.agent import Agent
from service.ports.attempts import AttemptStore, UsageLedger
from service.ports.events import EventLog
from service.ports.queue import EntryWriter
from service.supervision import Background
from service.worker.acknowledger import Acknowledger
from service.worker.leases import LeaseKeeper
from service.worker.upstream import UpstreamGate


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptDependencies:
    """Stores, streams and policies shared by all attempts of a worker; times in seconds."""

    worker_id: str
    agents: Mapping[str, Agent]
    attempts: AttemptStore
    ledger: UsageLedger
    events: EventLog
    entries: EntryWriter
    acknowledger: Acknowledger
    leases: LeaseKeeper
    background: Background
    upstream: UpstreamGate
    event_retention: float
    policy: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTerms:
    """How a worker takes jobs and how it ends; times in seconds."""

    concurrency: int
    lease: float
    max_crashes: int
    reclaim_every: float
    shutdown_grace: float
