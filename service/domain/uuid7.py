"""Ids that sort by when they were made (RFC 9562, version 7)."""

from uuid import UUID

RANDOM_BYTES = 10
_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_A = 0xFFF << 64
_RANDOM_B = (1 << 62) - 1


def uuid7(unix_milliseconds: int, random: bytes) -> UUID:
    """Combine a time with `RANDOM_BYTES` random bytes."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"an id needs {RANDOM_BYTES} random bytes")
    bits = int.from_bytes(random)
    return UUID(
        int=(unix_milliseconds & (1 << 48) - 1) << 80
        | _VERSION
        | bits & _RANDOM_A
        | _VARIANT
        | bits & _RANDOM_B
    )
