"""The kinds of values that settings take, each refused at start where it cannot be right."""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from service.domain.redis_addresses import REDIS_SCHEMES, parse_redis_address
from service.domain.web_addresses import cannot_be_overheard

_HIGHEST_PORT = 65_535

Seconds = Annotated[float, Field(gt=0, le=86_400 * 400)]
Port = Annotated[int, Field(ge=0, le=_HIGHEST_PORT)]

Limit = Annotated[float | None, Field(gt=0, le=1_000_000_000)]
Days = Annotated[int, Field(ge=1, le=36_500)]

_HOST_AND_PORT = re.compile(r"(\[[^\[\]\s]*\]|[^:\[\]\s]*)(?::(\d{1,5}))?", re.ASCII)


def _check_address(text: str, *schemes: str) -> None:
    """Refuse at start what a driver would only refuse when it connects; never repeats the text."""
    beginnings = [f"{scheme}://" for scheme in schemes]
    if not text.lower().startswith(tuple(beginnings)):
        raise ValueError(f"it must begin with {' or '.join(beginnings)}")
    try:
        hosts = urlsplit(text).netloc.rpartition("@")[2]
    except ValueError:  # which may quote a password
        raise ValueError("it has no valid host and port") from None
    # Postgres takes several hosts in one address.
    for host in hosts.split(","):
        match = _HOST_AND_PORT.fullmatch(host)
        if match is None or int(match[2] or 0) > _HIGHEST_PORT:
            raise ValueError("it has no valid host and port")


def _redis_address(secret: SecretStr) -> SecretStr:
    _check_address(secret.get_secret_value(), *REDIS_SCHEMES)
    parse_redis_address(secret.get_secret_value())
    return secret


def _postgres_address(secret: SecretStr) -> SecretStr:
    _check_address(secret.get_secret_value(), "postgresql", "postgres")
    return secret


def _http_address(text: str) -> str:
    _check_address(text, "http", "https")
    parts = urlsplit(text)
    if not parts.hostname or parts.username is not None:
        raise ValueError("it must name a host, without a user or password")
    return text


def _key(secret: SecretStr) -> SecretStr:
    # One that was read from a file ends with a line end.
    text = secret.get_secret_value().strip()
    if not text or not (text.isascii() and text.isprintable()):
        raise ValueError("it holds characters that no key has")
    return SecretStr(text)


Key = Annotated[SecretStr, AfterValidator(_key)]
RedisAddress = Annotated[SecretStr, AfterValidator(_redis_address)]
PostgresAddress = Annotated[SecretStr, AfterValidator(_postgres_address)]
HttpAddress = Annotated[str, AfterValidator(_http_address)]


def _issuer_address(text: str) -> str:
    _http_address(text)
    parts = urlsplit(text)
    if not cannot_be_overheard(text) or parts.query or parts.fragment:
        raise ValueError("it must be an https address (http only on this machine), and no more")
    return text


IssuerAddress = Annotated[str, AfterValidator(_issuer_address)]
# Those that a published key can check but not sign with; HMAC and `none` must never be among them.
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
ClaimName = Annotated[str, Field(min_length=1, max_length=200)]


def _in_capitals(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_in_capitals)]
