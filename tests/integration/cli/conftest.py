"""A folder to run `usa` in, and a service that stays up for a whole file."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.cli.usa import Usa

# At once for most, slow enough to be caught in the middle for the others.
QUICK = {"PORT": "0", "USA_OFFLINE_PACE": "0", "USA_SHUTDOWN_GRACE": "1", "USA_BLOCK": "0.2"}


@pytest.fixture
def usa(tmp_path: Path) -> Usa:
    """`usa` in an empty folder."""
    return Usa(tmp_path, dict(QUICK))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Usa]:
    """`usa` beside a service that is up, with its key; offline and at once."""
    with beside_a_service(tmp_path_factory.mktemp("service"), QUICK) as usa:
        yield usa


@pytest.fixture(scope="module")
def slow_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Usa]:
    """The same, but every iteration takes seconds."""
    with beside_a_service(
        tmp_path_factory.mktemp("slow"), {**QUICK, "USA_OFFLINE_PACE": "1"}
    ) as usa:
        yield usa


@contextmanager
def beside_a_service(folder: Path, variables: dict[str, str]) -> Iterator[Usa]:
    """Run `usa up` in a folder, and give what runs beside it."""
    usa = Usa(folder, dict(variables))
    with usa.started("up", "--json") as up:
        facts = json.loads(asyncio.run(up.prints("version")))
        yield Usa(folder, {**variables, "USA_API_URL": facts["apiUrl"]})
