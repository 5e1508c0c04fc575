"""API keys, and the limits of their users."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from service.domain.job import Owner
from service.domain.tiers import Overrides


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as stored: everything but its secret; `overrides` are its user's own limits."""

    prefix: str
    key_hash: bytes
    owner: Owner
    name: str
    scopes: frozenset[str]
    tier: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    overrides: Overrides = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UserLimits:
    """Where a user's limits differ from the tier's; a value of None means no limit."""

    owner: Owner
    overrides: Overrides
    updated_at: datetime


class ApiKeyStore(Protocol):
    """Hashed API keys."""

    async def find(self, prefix: str) -> ApiKey | None:
        """Look a key up by its public prefix."""
        ...

    async def touch(self, prefix: str) -> None:
        """Note that the key was used."""
        ...


class UserLimitStore(Protocol):
    """Limits that users have instead of their tiers'."""

    async def find(self, owner: Owner) -> Overrides:
        """Return this user's own limits; empty for whoever has none."""
        ...
