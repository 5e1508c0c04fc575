"""The stage on which secrets are looked for."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import aiohttp
import pytest

from service.agent.model_stub import ModelStub
from service.bootstrap import create_api_key
from service.domain.api_keys import Scope
from service.domain.job import Owner
from service.settings import Settings
from tests.acceptance.canaries import Caller, Canaries, Surfaces, acl_user, login
from tests.acceptance.stage import Stage
from tests.fixtures.collector import Collector
from tests.fixtures.oidc import AUDIENCE, Issuer
from tests.fixtures.processes import OWNER, Cluster
from tests.fixtures.proxy import proxy_to, redis_proxy_to

_MALLORY = Owner("rival", "mallory")
# What the owner has sent and may read again.
_OWN = frozenset({"story", "idempotency_key", "api_key", "jwt"})


@pytest.fixture
async def stage(cluster: Cluster, issuer: Issuer, collector: Collector) -> AsyncIterator[Stage]:
    """Servers behind proxies, the stand-in for Claude and three callers; no process yet."""
    async with AsyncExitStack() as stack:
        redis_url = cluster.environment["USA_REDIS_URL"]
        database_url = cluster.environment["USA_DATABASE_URL"]
        settings = Settings(redis_url=redis_url, database_url=database_url)
        other_key, _ = await create_api_key(
            settings, _MALLORY, name="other", scopes=[Scope.JOBS_READ, Scope.JOBS_WRITE],
            tier="unlimited", valid_for=None,
        )  # fmt: skip
        admin_key, _ = await create_api_key(
            settings, _MALLORY, name="admin", scopes=[Scope.ADMIN], tier="free", valid_for=None
        )
        token = issuer.token(sub=OWNER.user_id, tenant=OWNER.tenant_id)
        canaries = Canaries(
            api_key=cluster.key.split("_", 2)[2],
            other_key=other_key.split("_", 2)[2],
            jwt=token.rpartition(".")[2],
        )
        surfaces = Surfaces(canaries)
        stub = ModelStub(api_key=canaries.anthropic_key)
        await stub.start()
        stack.push_async_callback(stub.stop)
        database_url = await stack.enter_async_context(
            login(database_url, canaries.database_password)
        )
        postgres, database_url = await stack.enter_async_context(proxy_to(database_url))
        user = await stack.enter_async_context(acl_user(redis_url, canaries.redis_password))
        valkey, redis_url = await stack.enter_async_context(redis_proxy_to(redis_url))
        host = urlsplit(redis_url).netloc
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Stage(
            cluster=cluster,
            canaries=canaries,
            surfaces=surfaces,
            stub=stub,
            collector=collector,
            proxies=(postgres, valkey),
            environment={
                "USA_DATABASE_URL": database_url,
                "USA_REDIS_URL": f"redis://{user}:{canaries.redis_password}@{host}/0",
                "USA_MODEL": "anthropic",
                "ANTHROPIC_API_KEY": canaries.anthropic_key,
                "ANTHROPIC_BASE_URL": stub.address,
                "USA_OIDC_ISSUER": issuer.address,
                "USA_OIDC_AUDIENCE": AUDIENCE,
                "USA_LOG_LEVEL": "DEBUG",
                **collector.environment(
                    OTEL_EXPORTER_OTLP_HEADERS=f"x-api-key={canaries.collector_key}",
                    ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE="content",
                ),
            },
            ann=Caller(session, surfaces, "the owner", cluster.key, _OWN),
            token=token,
            mallory=Caller(session, surfaces, "another tenant", other_key, frozenset()),
            operator=Caller(session, surfaces, "an operator", admin_key, frozenset()),
        )
        for process in cluster.processes:
            process.kill()
