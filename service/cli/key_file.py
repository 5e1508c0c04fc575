"""The file that holds this machine's API key, and what a client sends and where."""

import os
from pathlib import Path

from service.cli.exit_codes import ExitCode
from service.cli.failures import Failure

_NAME = "key"


def key_path(home: Path) -> Path:
    """Return where the key of a home folder is."""
    return home / _NAME


def read_key(home: Path) -> str | None:
    """Return the key that is kept in a home folder, if there is one."""
    path = key_path(home)
    try:
        return path.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read the key in {path}: {error}", ExitCode.SETTINGS) from error


def keep_key(home: Path, key: str) -> None:
    """Replace the kept key; nobody but this user can read it, at no time."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = key_path(home).with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key + "\n")
    fresh.replace(key_path(home))


def credentials() -> tuple[str, str]:
    """Return the address of the service and the key to send, or say how to get a key."""
    from service.settings import ClientSettings

    settings = ClientSettings()
    given = settings.api_key.get_secret_value() if settings.api_key else None
    key = given or read_key(settings.home)
    if key is None:
        raise Failure(
            f"no API key: set USA_API_KEY, or run this where `usa up` keeps one in"
            f" {key_path(settings.home)}",
            ExitCode.SETTINGS,
        )
    return settings.api_url, key
