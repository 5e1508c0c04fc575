"""API keys as stored: found by their prefix, revoked for good."""

import json

import asyncpg
import pytest

from service.domain.job import Owner
from service.ports.access import ApiKey
from service.postgres.user_limits import PostgresUserLimits
from tests.fixtures.database import Observer, Stores

OWNER = Owner("acme", "ann")


async def insert(
    stores: Stores, prefix: str = "0a1b2c3d", valid_for: float | None = None
) -> ApiKey:
    """A key of Ann's."""
    return await stores.keys.insert(
        prefix,
        b"hash",
        OWNER,
        name="laptop",
        scopes=["jobs:write", "jobs:read"],
        tier="pro",
        valid_for=valid_for,
    )


async def test_a_key_is_found_by_its_prefix(stores: Stores) -> None:
    stored = await insert(stores)

    found = await stores.keys.find("0a1b2c3d")

    assert found == stored
    assert (stored.owner, stored.name, stored.tier) == (OWNER, "laptop", "pro")
    assert (stored.key_hash, stored.scopes) == (
        b"hash",
        frozenset({"jobs:read", "jobs:write"}),
    )
    assert (stored.expires_at, stored.revoked_at, stored.last_used_at) == (None, None, None)
    assert await stores.keys.find("ffffffff") is None


async def test_a_key_is_found_with_its_users_own_limits(stores: Stores, observer: Observer) -> None:
    await insert(stores)
    overrides = {"tokens_per_day": 5_000_000_000, "concurrent_jobs": None}
    insertion = "INSERT INTO user_limits (tenant_id, user_id, overrides) VALUES ($1, $2, $3)"
    await observer.run(insertion, "acme", "bob", '{"story_bytes": 1}')
    await observer.run(insertion, "rival", "ann", '{"story_bytes": 2}')
    found = await stores.keys.find("0a1b2c3d")
    assert found is not None
    assert found.overrides == {}

    await observer.run(insertion, "acme", "ann", json.dumps(overrides))
    found = await stores.keys.find("0a1b2c3d")
    assert found is not None
    assert found.overrides == overrides
    limits = PostgresUserLimits(stores.database)
    assert await limits.find(OWNER) == overrides
    assert await limits.find(Owner("acme", "carol")) == {}


async def test_a_key_may_expire(stores: Stores) -> None:
    stored = await insert(stores, valid_for=60.0)

    assert stored.expires_at is not None
    assert (stored.expires_at - stored.created_at).total_seconds() == pytest.approx(60, abs=0.1)


async def test_a_prefix_belongs_to_one_key(stores: Stores) -> None:
    await insert(stores)

    with pytest.raises(asyncpg.UniqueViolationError):
        await insert(stores)


async def test_a_revoked_key_stays_revoked_since_the_first_time(stores: Stores) -> None:
    await insert(stores)

    assert await stores.keys.revoke("0a1b2c3d")
    first = await stores.keys.find("0a1b2c3d")
    assert await stores.keys.revoke("0a1b2c3d")

    assert first is not None
    assert first.revoked_at is not None
    assert await stores.keys.find("0a1b2c3d") == first
    assert not await stores.keys.revoke("ffffffff")


async def test_use_is_noted_at_most_once_a_minute(stores: Stores, observer: Observer) -> None:
    await insert(stores)
    await stores.keys.touch("0a1b2c3d")
    first = await stores.keys.find("0a1b2c3d")

    await stores.keys.touch("0a1b2c3d")
    again = await stores.keys.find("0a1b2c3d")
    await observer.run("UPDATE api_keys SET last_used_at = last_used_at - interval '1 minute'")
    await stores.keys.touch("0a1b2c3d")
    later = await stores.keys.find("0a1b2c3d")

    assert first is not None
    assert later is not None
    assert first.last_used_at is not None
    assert later.last_used_at is not None
    assert again == first
    assert later.last_used_at > first.last_used_at


async def test_keys_are_listed_newest_first(stores: Stores) -> None:
    stored = [await insert(stores, prefix) for prefix in ("00000001", "00000002")]

    assert await stores.keys.list_all() == stored[::-1]
