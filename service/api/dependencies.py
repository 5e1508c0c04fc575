"""What the API's handlers need, built once by bootstrap."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from service.api.auth import Recognise
from service.api.snapshots import Snapshots
from service.api.tails import TailHub
from service.ports.access import ApiKeyStore
from service.ports.agent import Agent
from service.ports.events import EventLog
from service.ports.health import Probe
from service.ports.jobs import DeadLetterStore, JobStore
from service.ports.preview import WorkflowPreviewer
from service.ports.queue import EntryWriter, Nudges, Wake
from service.ports.queue_control import QueueControl, StreamCounter
from service.ports.rate_limit import RateLimiter
from service.ports.usage import UsageStore
from service.supervision import Background


def _stays() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiDependencies:
    """Stores, streams and limits; durations in seconds.

    `probe_postgres` decides readiness; without Redis (`probe_redis`) the API is ready but
    degraded, and once it `is_leaving` it is not ready. `wake_relay` makes the relay look for
    queued jobs at once; `tokens` recognises JWTs, where an issuer is trusted.
    """

    jobs: JobStore
    dead_letters: DeadLetterStore
    keys: ApiKeyStore
    usage: UsageStore
    queue: QueueControl
    streams: StreamCounter
    entries: EntryWriter
    events: EventLog
    nudges: Nudges
    tails: TailHub
    snapshots: Snapshots
    agents: Mapping[str, Agent]
    previewer: WorkflowPreviewer
    rate_limiter: RateLimiter
    background: Background
    wake_relay: Wake
    probe_postgres: Probe
    probe_redis: Probe
    version: str
    event_retention: float
    default_deadline: float
    cors_origins: tuple[str, ...] = ()
    serve_metrics: bool = False
    offline: bool = False
    is_leaving: Callable[[], bool] = _stays
    tokens: Recognise | None = None


DEPENDENCIES: Final = web.AppKey("dependencies", ApiDependencies)
