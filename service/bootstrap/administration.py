"""What a person does to the database from the command line."""

import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from service.bootstrap.connections import database_url
from service.domain.api_keys import RANDOM_BYTES, Scope, format_key
from service.domain.job import Owner
from service.domain.tiers import Overrides
from service.ports.access import ApiKey, UserLimits
from service.postgres import schema
from service.postgres.api_keys import PostgresApiKeyStore
from service.postgres.pool import Database
from service.postgres.user_limits import PostgresUserLimits
from service.settings import Settings
from service.telemetry.audit import COMMAND_LINE, Outcome, audit


@asynccontextmanager
async def command_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the few connections that a command needs; raises `MissingAddress`."""
    database = Database(database_url(settings), name="usa-cli", size=2)
    try:
        yield database
    finally:
        await database.close()


async def migrate(settings: Settings) -> list[str]:
    """Apply what is missing and return the names; raises `SchemaMismatch`, `Unavailable`."""
    async with command_database(settings) as database:
        return await schema.migrate(database)


async def pending_migrations(settings: Settings) -> list[str]:
    """Name what is missing; raises `SchemaMismatch`, `Unavailable`."""
    async with command_database(settings) as database:
        return await schema.pending_migrations(database)


async def create_api_key(
    settings: Settings,
    owner: Owner,
    *,
    name: str,
    scopes: Collection[Scope],
    tier: str,
    valid_for: float | None,
) -> tuple[str, ApiKey]:
    """Make a key and return its text, which is never to be had again, with what is stored."""
    key = format_key(secrets.token_bytes(RANDOM_BYTES))
    async with command_database(settings) as database:
        stored = await PostgresApiKeyStore(database).insert(
            key.prefix,
            key.key_hash,
            owner,
            name=name,
            scopes=[scope.value for scope in scopes],
            tier=tier,
            valid_for=valid_for,
        )
    audit(
        "keys.create",
        Outcome.ALLOWED,
        caller=COMMAND_LINE,
        owner=owner,
        key_prefix=key.prefix,
        scopes=sorted(scope.value for scope in scopes),
        tier=tier,
    )
    return key.text, stored


async def list_api_keys(settings: Settings) -> list[ApiKey]:
    """List every key, newest first."""
    async with command_database(settings) as database:
        return await PostgresApiKeyStore(database).list_all()


async def revoke_api_key(settings: Settings, prefix: str) -> bool:
    """Revoke a key; returns whether there is such a key."""
    async with command_database(settings) as database:
        store = PostgresApiKeyStore(database)
        key = await store.find(prefix)
        is_there = await store.revoke(prefix)
    audit(
        "keys.revoke",
        Outcome.ALLOWED if is_there else Outcome.DENIED,
        caller=COMMAND_LINE,
        owner=key.owner if key else None,
        # What names no key may be anything that was pasted, a secret too.
        key_prefix=prefix if is_there else None,
    )
    return is_there


async def list_user_limits(
    settings: Settings, tenant_id: str | None, user_id: str | None
) -> list[UserLimits]:
    """List the users whose limits differ from their tier's."""
    async with command_database(settings) as database:
        return await PostgresUserLimits(database).list_all(tenant_id, user_id)


async def change_user_limits(
    settings: Settings, owner: Owner, overrides: Overrides, tiers: Collection[str]
) -> UserLimits:
    """Set some limits of a user, and take others from the tier again."""
    async with command_database(settings) as database:
        changed = await PostgresUserLimits(database).change(owner, overrides, tiers)
    audit(
        "limits.set",
        Outcome.ALLOWED,
        caller=COMMAND_LINE,
        owner=owner,
        limits={**overrides, **dict.fromkeys(tiers, "tier")},
    )
    return changed


async def clear_user_limits(settings: Settings, owner: Owner) -> bool:
    """Go back to the tier's limits; returns whether any differed."""
    async with command_database(settings) as database:
        is_there = await PostgresUserLimits(database).clear(owner)
    outcome = Outcome.ALLOWED if is_there else Outcome.DENIED
    audit("limits.clear", outcome, caller=COMMAND_LINE, owner=owner)
    return is_there
