"""Looks at everything a service needs, without changing any of it."""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote, urlsplit

from service.agent.anthropic_model import AnthropicModel, MissingApiKey
from service.agent.offline_model import OFFLINE
from service.bootstrap.administration import command_database
from service.bootstrap.agents import claude, planning_agents, today
from service.bootstrap.connections import MissingAddress, redis_url
from service.bootstrap.extras import MissingExtra
from service.bootstrap.plug_ins import BrokenPlugIn
from service.bootstrap.tokens import issuer_keys
from service.domain.checkup import Finding, Health, judge_redis, judge_schema
from service.domain.errors import ModelFailure, Unavailable
from service.domain.lifecycle import judge_lifecycle
from service.domain.models import configured_models
from service.domain.pricing import cost_usd
from service.domain.redis_addresses import SENTINEL_PASSWORD
from service.domain.usage import Usage
from service.postgres.inspection import server_version
from service.postgres.pool import Database
from service.postgres.schema import (
    SchemaMismatch,
    check_api_role,
    check_worker_role,
    pending_migrations,
)
from service.settings import Settings
from service.streams.connection import once_client
from service.streams.inspection import inspect_redis
from service.telemetry.logs import get_log

_SERVER_WITHIN = 10.0
# The import of the SDK takes seconds.
_MODEL_WITHIN = 20.0

_LONG_SECRET = 8
_SECRET_OPTIONS = frozenset({"password", SENTINEL_PASSWORD})

_log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class _Check:
    """One thing to look at, and what sets where it is; what it yields before it fails counts."""

    name: str
    findings: AsyncGenerator[Finding]
    variable: str = ""
    within: float = _SERVER_WITHIN


async def check_up(settings: Settings) -> list[Finding]:
    """Check servers, schema, models and prices; whatever fails, the others are told.

    Each check takes a bounded time, and no finding holds a password or a key.
    """
    others = [
        _Check("agents", _look_at_agents(settings)),
        _Check("postgres", _look_at_postgres(settings), "DATABASE_URL"),
        _Check("redis", _look_at_redis(settings), "REDIS_URL"),
    ]
    if settings.api_database_url is not None:
        url = settings.api_database_url.get_secret_value()
        others.append(_Check("role of requests", _look_at_api_role(url), "USA_API_DATABASE_URL"))
    if settings.oidc_issuer is not None:
        others.append(_Check("token issuer", _look_at_issuer(settings), "USA_OIDC_ISSUER"))
    return await _findings(settings, others)


async def warn_of_models(settings: Settings) -> None:
    """Log each configured model that is retired, unknown, soon to go, or without a price."""
    for finding in await _findings(settings, []):
        if finding.health is Health.WARNING:
            _log.warning("model_warning", check=finding.check, problem=finding.message)
        elif finding.health is Health.FAILED:
            _log.warning("model_not_checked", check=finding.check, problem=finding.message)


async def _findings(settings: Settings, others: list[_Check]) -> list[Finding]:
    async with AsyncExitStack() as stack:
        checks = [*others, *await _model_checks(settings, stack)]
        told = await asyncio.gather(*map(_told, checks))
    secrets = _secrets_of(settings)
    return [_without(secrets, finding) for findings in told for finding in findings]


async def _told(check: _Check) -> list[Finding]:
    told: list[Finding] = []
    try:
        async with asyncio.timeout(check.within), aclosing(check.findings) as findings:
            async for finding in findings:
                told.append(finding)  # noqa: PERF401 - a list would lose them with the failure
    except MissingAddress:
        message = "no address is set, and no `usa up` runs here"
        told.append(Finding.failed(check.name, message, f"set {check.variable}, or start `usa up`"))
    except TimeoutError:
        message = f"no answer within {check.within:g} s"
        told.append(Finding.failed(check.name, message, f"check {check.variable}"))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others are told
        told.append(Finding.failed(check.name, _said(error), f"check {check.variable}"))
    return told


def _said(error: Exception) -> str:
    match error:
        case Unavailable():
            cause = str(error.__cause__ or "")
            return f"{error} ({cause})" if cause else str(error)
        case ModelFailure() | MissingExtra():
            return str(error)
        case _:
            return f"{type(error).__name__}: {error}"


async def _look_at_agents(settings: Settings) -> AsyncGenerator[Finding]:
    try:
        yield Finding.ok("agents", ", ".join(planning_agents(settings)))
    except BrokenPlugIn as error:
        advice = "install a version that works, or uninstall it"
        yield Finding.failed("agents", str(error), advice)


async def _look_at_postgres(settings: Settings) -> AsyncGenerator[Finding]:
    async with command_database(settings) as database:
        version = await server_version(database)
        yield Finding.ok("postgres", f"PostgreSQL {version} answers")
        try:
            missing = await pending_migrations(database)
        except SchemaMismatch as error:
            yield Finding.failed("schema", str(error), "install the version that belongs to it")
            return
        yield judge_schema(missing)
        if not missing:
            yield await _judge_role("role of workers", check_worker_role(database))


async def _look_at_api_role(url: str) -> AsyncGenerator[Finding]:
    database = Database(url, name="usa-doctor", size=1, row_security=True)
    try:
        yield await _judge_role("role of requests", check_api_role(database))
    finally:
        await database.close()


async def _judge_role(name: str, check: Awaitable[None]) -> Finding:
    try:
        await check
    except SchemaMismatch as error:
        return Finding.failed(name, str(error), "deploy/README.md tells which role is for what")
    return Finding.ok(name, "it may do what it must")


async def _look_at_redis(settings: Settings) -> AsyncGenerator[Finding]:
    url = redis_url(settings)
    client = once_client(url, name="usa-doctor", timeout=settings.socket_timeout)
    try:
        for finding in judge_redis(await inspect_redis(client)):
            yield finding
    finally:
        await client.aclose()


async def _look_at_issuer(settings: Settings) -> AsyncGenerator[Finding]:
    keys = await issuer_keys(settings)
    if keys:
        yield Finding.ok("token issuer", f"{settings.oidc_issuer} answers, {len(keys)} usable keys")
    else:
        advice = "check USA_OIDC_ALGORITHMS against the issuer's keys"
        yield Finding.failed("token issuer", f"{settings.oidc_issuer} has no usable key", advice)


async def _model_checks(settings: Settings, stack: AsyncExitStack) -> list[_Check]:
    if settings.model == OFFLINE:
        said = Finding.ok("model", "offline: rules write the stories, and no model is called")
        return [_Check("model", _just(said))]
    try:
        model = await stack.enter_async_context(claude(settings))
    except MissingApiKey as error:
        advice = "workers need it; with USA_MODEL=offline no model is called"
        return [_Check("model", _just(Finding.failed("model", str(error), advice)))]
    variables = "ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL"
    return [
        _Check(f"model {name}", _look_at_model(model, name), variables, _MODEL_WITHIN)
        for name in configured_models()
    ]


async def _look_at_model(model: AnthropicModel, name: str) -> AsyncGenerator[Finding]:
    if cost_usd(name, Usage(), today()) is None:
        advice = "add it to service/domain/pricing.py; until then its jobs cost null"
        yield Finding.warning(f"price {name}", "is unknown", advice)
    yield judge_lifecycle(name, await model.lifecycle(name), today())


async def _just(finding: Finding) -> AsyncGenerator[Finding]:
    yield finding


def _secrets_of(settings: Settings) -> list[str]:
    given = [settings.anthropic_api_key] if settings.anthropic_api_key else []
    secrets = [secret.get_secret_value() for secret in given]
    for url in (settings.redis_url, settings.database_url, settings.api_database_url):
        parts = urlsplit(url.get_secret_value() if url else "")
        named = [value for name, value in parse_qsl(parts.query) if name in _SECRET_OPTIONS]
        own = [parts.password, unquote(parts.password)] if parts.password else []
        secrets += own + named
    return secrets


def _without(secrets: Sequence[str], finding: Finding) -> Finding:
    message = finding.message
    for secret in secrets:
        message = re.sub(_pattern(secret), "(hidden)", message)
    return replace(finding, message=message)


def _pattern(secret: str) -> str:
    # Our own words may hold a short one, and the holes in them would spell it out.
    text = re.escape(secret)
    return text if len(secret) >= _LONG_SECRET else rf"(?<!\w){text}(?!\w)"
