"""API keys as text: `usa_<8 hex>_<secret>`, their hash and their scopes."""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

RANDOM_BYTES: Final = 36
# How every key begins, and no other credential does.
MARK: Final = "usa_"
_PREFIX_BYTES = 4
_PREFIX = re.compile(r"[0-9a-f]{8}", re.ASCII)
_LONGEST_KEY = 200


class Scope(StrEnum):
    """What a key may do."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    JOBS_TENANT = "jobs:tenant"
    USAGE_READ = "usage:read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A key as a caller sent it; only its public prefix is ever shown."""

    prefix: str
    key_hash: bytes = field(repr=False)

    def matches(self, stored_hash: bytes) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.key_hash, stored_hash)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; its text is shown once and never stored."""

    text: str = field(repr=False)
    prefix: str
    key_hash: bytes = field(repr=False)


def parse_key(text: str) -> PresentedKey | None:
    """Read a key; anything else is None. The secret itself may contain underscores."""
    if len(text) > _LONGEST_KEY or not text.isascii():
        return None
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != "usa" or not _PREFIX.fullmatch(parts[1]) or not parts[2]:
        return None
    return PresentedKey(parts[1], hash_key(text))


def format_key(random: bytes) -> NewKey:
    """Make a key of `RANDOM_BYTES` bytes that only a cryptographic source may have chosen."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a key needs {RANDOM_BYTES} random bytes")
    prefix = random[:_PREFIX_BYTES].hex()
    secret = urlsafe_b64encode(random[_PREFIX_BYTES:]).decode().rstrip("=")
    text = f"usa_{prefix}_{secret}"
    return NewKey(text, prefix, hash_key(text))


def hash_key(text: str) -> bytes:
    """Hash a whole key; its secret is random, so that a fast hash is enough."""
    return hashlib.sha256(text.encode()).digest()
