"""The whole service on this machine: its settings, its servers and its key."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from service.bootstrap import create_api_key, list_api_keys
from service.cli.key_file import keep_key, read_key
from service.cli.signals import ignore_signals, interruptions_held
from service.domain.api_keys import Scope, parse_key
from service.domain.job import Owner
from service.domain.tiers import UNLIMITED
from service.embedded import EmbeddedServers
from service.settings import Settings

_OWNER = Owner("local", "local")


def local_settings(log_level: str = "WARNING", **fixed: Any) -> Settings:
    """Read the settings with defaults for one person on one machine; `fixed` ones win."""
    return localized(Settings(), log_level, **fixed)


def localized(settings: Settings, log_level: str = "WARNING", **fixed: Any) -> Settings:
    """Return settings in which what is not set is for one person on one machine."""
    defaults: dict[str, Any] = {
        "host": "127.0.0.1",
        "log_level": log_level,
        "log_format": "text",
    }
    if settings.anthropic_api_key is None:
        defaults["model"] = "offline"
    open_to_choice = {
        name: value for name, value in defaults.items() if name not in settings.model_fields_set
    }
    return settings.model_copy(update=open_to_choice | fixed)


@contextmanager
def own_servers(settings: Settings, *, durable: bool = True) -> Iterator[Settings]:
    """Start what no address is set for, and stop it again; main thread, outside event loops.

    From the start on, signals interrupt once; the stop is not interrupted.
    """
    redis_url, database_url = _text(settings.redis_url), _text(settings.database_url)
    if redis_url and database_url:
        yield settings
        return
    servers = EmbeddedServers(
        settings.home, redis_url=redis_url, database_url=database_url, durable=durable
    )
    try:
        # Cut short between a server's start and the note of it, nobody would stop that server.
        with interruptions_held():
            urls = servers.start()
        started = {
            "redis_url": SecretStr(urls.redis_url),
            "database_url": SecretStr(urls.database_url),
        }
        yield settings.model_copy(update=started)
    finally:
        ignore_signals()
        servers.stop()


async def local_key(settings: Settings) -> str:
    """Return the key kept in the home folder, a new one if the database does not know it."""
    kept = read_key(settings.home)
    if kept is not None and await _is_valid(settings, kept):
        return kept
    key = await new_local_key(settings)
    keep_key(settings.home, key)
    return key


async def new_local_key(settings: Settings) -> str:
    """Make a key for the one person at this machine, who also operates the service."""
    key, _ = await create_api_key(
        settings,
        _OWNER,
        name="local",
        scopes=frozenset(Scope),
        tier=UNLIMITED.name,
        valid_for=None,
    )
    return key


async def _is_valid(settings: Settings, text: str) -> bool:
    presented = parse_key(text)
    return presented is not None and any(
        presented.prefix == known.prefix
        and presented.matches(known.key_hash)
        and known.revoked_at is None
        for known in await list_api_keys(settings)
    )


def _text(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
