"""API keys."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.domain.job import Owner


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as stored: everything but its secret."""

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


class ApiKeyStore(Protocol):
    """Hashed API keys."""

    async def find(self, prefix: str) -> ApiKey | None:
        """Look a key up by its public prefix."""
        ...

    async def touch(self, prefix: str) -> None:
        """Note that the key was used."""
        ...
