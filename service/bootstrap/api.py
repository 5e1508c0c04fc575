"""Builds the HTTP API and opens its port."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service import __version__
from service.api.app import create_app
from service.api.dependencies import ApiDependencies
from service.api.snapshots import Snapshots
from service.api.tails import CHECK_EVERY, TailHub
from service.bootstrap.agents import planning_agents
from service.bootstrap.connections import Connections
from service.bootstrap.listening import listening
from service.postgres.api_keys import PostgresApiKeyStore
from service.postgres.job_store import PostgresJobStore
from service.settings import Settings
from service.streams.event_feed import RedisEventFeed
from service.supervision import Background, Periodic, Wakeup


@asynccontextmanager
async def serving_api(
    settings: Settings,
    connections: Connections,
    background: Background,
    vital: Background,
    *,
    wake_relay: Wakeup,
    serve_metrics: bool,
) -> AsyncIterator[str]:
    """Serve the API inside this block; yields its base URL."""
    jobs = PostgresJobStore(
        connections.database,
        connections.attempts,
        connections.ledger,
        user_in_stream=settings.user_in_stream,
    )
    agents = planning_agents(settings)
    snapshots = Snapshots(jobs, agents)
    tails = TailHub(connections.events, RedisEventFeed(connections.once), jobs, snapshots)
    app = create_app(
        ApiDependencies(
            jobs=jobs,
            keys=PostgresApiKeyStore(connections.database),
            entries=connections.entries,
            events=connections.events,
            nudges=connections.nudges,
            tails=tails,
            snapshots=snapshots,
            agents=agents,
            background=background,
            wake_relay=wake_relay,
            probe_postgres=connections.probe_postgres,
            probe_redis=connections.probe_redis,
            version=__version__,
            event_retention=settings.event_retention,
            default_deadline=settings.job_deadline,
            cors_origins=settings.cors_origins,
            serve_metrics=serve_metrics,
            offline=settings.model == "offline",
        )
    )
    silence = Periodic("silence", tails.check_silence, CHECK_EVERY)
    hearing = vital.spawn("tails", tails.run())
    checking = vital.spawn("silence", silence.run())
    try:
        async with listening(app, settings.host, settings.port) as address:
            yield address
    finally:
        silence.stop()
        await vital.cancel([hearing, checking])
