"""Builds the HTTP API and opens its port."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from service import __version__
from service.api.app import create_app
from service.api.dependencies import ApiDependencies
from service.api.snapshots import Snapshots
from service.api.tails import CHECK_EVERY, TailHub
from service.bootstrap.agents import planning_agents, workflow_previewer
from service.bootstrap.connections import Connections, database_url, event_feed
from service.bootstrap.listening import listening
from service.bootstrap.tokens import token_recogniser
from service.postgres.api_keys import PostgresApiKeyStore
from service.postgres.attempt_store import PostgresAttemptStore
from service.postgres.dead_letters import PostgresDeadLetterStore
from service.postgres.job_store import PostgresJobStore
from service.postgres.pool import Database
from service.postgres.queue_control import PostgresQueueControl
from service.postgres.schema import check_api_role
from service.postgres.usage_store import PostgresUsageStore
from service.postgres.user_limits import PostgresUserLimits
from service.settings import Settings
from service.streams.queue_counts import RedisStreamCounter
from service.streams.rate_limit import RedisRateLimiter
from service.supervision import Background, Periodic, Wakeup, retry_while_unavailable
from service.telemetry.pools import exported_pool

# Whoever asks is told within three seconds that Postgres is away, however it is away. What works
# in the background bears with it for longer, on connections of its own.
_CONNECTED_WITHIN = 1.0
_ANSWERED_WITHIN = 1.5
_START_PATIENCE = 30.0


@asynccontextmanager
async def _databases(settings: Settings) -> AsyncIterator[tuple[Database, Database]]:
    """Open what answers for one owner at a time, and what operates the queue of all.

    They are one, unless a role is set that sees one owner only; raises `SchemaMismatch` for a
    role that sees all.
    """
    whole = _database(settings, database_url(settings))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(whole.close)
        if settings.api_database_url is None:
            yield whole, whole
            return
        url = settings.api_database_url.get_secret_value()
        confined = _database(settings, url, row_security=True)
        stack.push_async_callback(confined.close)
        await retry_while_unavailable(
            "api_role", lambda: check_api_role(confined), patience=_START_PATIENCE
        )
        yield confined, whole


def _database(settings: Settings, url: str, *, row_security: bool = False) -> Database:
    return Database(
        url,
        name="usa-requests",
        size=settings.postgres_pool,
        acquire=_CONNECTED_WITHIN,
        command=_ANSWERED_WITHIN,
        row_security=row_security,
    )


@asynccontextmanager
async def serving_api(
    settings: Settings,
    connections: Connections,
    background: Background,
    vital: Background,
    *,
    wake_relay: Wakeup,
    is_leaving: Callable[[], bool],
    serve_metrics: bool,
) -> AsyncIterator[str]:
    """Serve the API inside this block; yields its base URL."""
    async with AsyncExitStack() as stack:
        requests, operations = await stack.enter_async_context(_databases(settings))
        stack.enter_context(exported_pool("postgres_requests", requests.use))
        jobs = PostgresJobStore(
            requests,
            PostgresAttemptStore(operations, background),
            background,
            user_in_stream=settings.user_in_stream,
            queue_limit=settings.max_queued,
        )
        agents = planning_agents(settings)
        snapshots = Snapshots(jobs, agents)
        feed = event_feed(connections.once, vital)
        tails = TailHub(connections.events, feed, jobs, snapshots)
        app = create_app(
            ApiDependencies(
                jobs=jobs,
                dead_letters=PostgresDeadLetterStore(
                    operations, user_in_stream=settings.user_in_stream
                ),
                keys=PostgresApiKeyStore(requests),
                usage=PostgresUsageStore(requests),
                queue=PostgresQueueControl(operations),
                streams=RedisStreamCounter(connections.once),
                entries=connections.entries,
                events=connections.events,
                nudges=connections.nudges,
                tails=tails,
                snapshots=snapshots,
                agents=agents,
                previewer=workflow_previewer(settings),
                rate_limiter=RedisRateLimiter(connections.once),
                background=background,
                wake_relay=wake_relay,
                probe_postgres=connections.probe_postgres,
                probe_redis=connections.probe_redis,
                version=__version__,
                event_retention=settings.event_retention,
                default_deadline=settings.job_deadline,
                cors_origins=settings.cors_origins,
                serve_metrics=serve_metrics,
                is_leaving=is_leaving,
                offline=settings.model == "offline",
                tokens=token_recogniser(settings, background, PostgresUserLimits(requests)),
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
