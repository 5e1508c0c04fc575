"""Clients that others generate from the served description do what they are for.

Each is made as its users make it, with nothing of ours but the description and a program that uses
it; both programs do the same and must see the same.
"""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.fixtures.deployment import Deployment
from tests.fixtures.readme import ROOT
from tests.fixtures.tools import needed_environment, needed_packages, needed_program

pytestmark = pytest.mark.timeout(300)

_HERE = Path(__file__).parent


@pytest.fixture
async def description(deployment: Deployment, tmp_path: Path) -> Path:
    """The description as it is served, in a file; the service can be called."""
    url = await deployment.start_api()
    # A workflow takes long enough to be cancelled, and one iteration no more than a wait.
    await deployment.start_worker(offline_pace=0.3)
    path = tmp_path / "openapi.json"
    async with deployment.session.get(f"{url}/openapi.json") as response:
        path.write_bytes(await response.read())
    return path


async def run(*command: str, folder: Path, programs: Path | None = None) -> str:
    """Run a program to its end and return what it prints."""
    path = os.environ["PATH"] if programs is None else f"{programs}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, (output + errors).decode()
    return output.decode()


async def test_a_client_of_openapi_python_client_works(
    description: Path, deployment: Deployment, tmp_path: Path
) -> None:
    programs = needed_environment(ROOT / "requirements" / "generator.lock", tmp_path / "venv")
    made = tmp_path / "user_story_client"

    await run(
        "openapi-python-client", "generate", "--path", str(description), "--meta", "none",
        "--output-path", str(made), "--fail-on-warning", folder=tmp_path, programs=programs,
    )  # fmt: skip
    shutil.copy2(_HERE / "python" / "exercise.py", tmp_path)
    printed = await run(
        str(programs / "python"), "exercise.py", deployment.url, deployment.key, folder=tmp_path
    )

    check(orjson.loads(printed))


async def test_a_client_of_openapi_typescript_compiles_and_works(
    description: Path, deployment: Deployment, tmp_path: Path
) -> None:
    node, npx = needed_program("node"), needed_program("npx")
    folder = tmp_path / "typescript"
    shutil.copytree(
        _HERE / "typescript", folder, ignore=shutil.ignore_patterns("node_modules", "made")
    )
    needed_packages(folder)

    # Or it takes whatever has a default for required.
    options = ["--default-non-nullable=false", "-o", "service.ts"]
    await run(npx, "openapi-typescript", str(description), *options, folder=folder)
    await run(npx, "tsc", folder=folder)
    printed = await run(node, "made/exercise.js", deployment.url, deployment.key, folder=folder)

    check(orjson.loads(printed))


def check(seen: dict[str, Any]) -> None:
    """What each of the programs must have seen."""
    assert seen.pop("markdown").startswith("# ")
    assert seen.pop("iterations") > 5
    assert seen == {
        "finished": "completed",
        "cost": 0,
        "cancelled": "cancelled",
        "read": "cancelled",
        "listed": True,
        "ends": 1,
        "refused": [409, "JOB_FINISHED"],
        "unknown": [404, "NOT_FOUND"],
    }
