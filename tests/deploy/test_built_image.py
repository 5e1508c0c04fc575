"""The image, as buildah makes it, is small, complete and known, and its processes do their work."""

import asyncio
import json
import re
import signal
import zipfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from service.client.api_client import ApiClient
from tests.fixtures.confinement import Confinement, is_read_only, rights_of
from tests.fixtures.images import Image
from tests.fixtures.locks import entries, versions
from tests.fixtures.processes import QUICK, ServiceProcess
from tests.fixtures.proxy import proxy_to, redis_proxy_to
from tests.fixtures.strangers import free_port
from tests.fixtures.tools import needed_module, needed_wheel

pytestmark = pytest.mark.timeout(600)

_SBOM = "opt/usa/sbom.cdx.json"
_STORY = "As a user, I want to log in"


def test_its_layers_take_at_most_130_megabytes(image: Image) -> None:
    assert 50_000_000 < image.added <= 130_000_000


def test_it_has_no_compiler_no_cache_and_no_tool_of_tests(image: Image) -> None:
    programs = {path.name for path in image.root.glob("opt/usa/bin/*")}
    programs |= {path.name for path in image.root.glob("usr/**/*bin/*")}
    assert {"usa", "python"} <= programs
    unwanted = {"gcc", "cc", "g++", "ld", "as", "make", "pip", "pytest", "mypy", "ruff"}
    assert programs & unwanted == set()
    assert not list(image.root.glob("root/.cache")) + list(image.root.glob("tmp/*"))
    for extra in ("build", "dev"):
        only_there = versions(extra).keys() - versions("runtime").keys()
        assert only_there & installed(image).keys() == set()


def installed(image: Image) -> dict[str, str]:
    """Return the versions of what is installed in an image, by name."""
    [packages] = image.root.glob("opt/usa/lib/python3*/site-packages")
    return {
        found.metadata["Name"].lower().replace("_", "-").replace(".", "-"): found.version
        for found in distributions(path=[str(packages)])
    }


def bill(image: Image) -> dict[str, Any]:
    """Return the bill of materials that is in an image."""
    document: dict[str, Any] = json.loads((image.root / _SBOM).read_bytes())
    return document


def test_its_bill_names_everything_installed_with_version_licence_and_hash(image: Image) -> None:
    document = bill(image)
    own = document["metadata"]["component"]
    listed = {each["name"]: each for each in [own, *document["components"]]}
    assert {name: each["version"] for name, each in listed.items()} == installed(image)
    assert len(listed) == len(document["components"]) + 1 > 30
    assert [name for name, each in listed.items() if not each["licenses"]] == []
    digests = {name: each["hashes"][0]["content"] for name, each in listed.items()}
    locked = {re.split("[=[]", entry)[0]: entry for entry in entries("runtime")}
    assert digests.keys() - locked.keys() == {own["name"]}
    assert [
        name for name in digests.keys() & locked.keys() if digests[name] not in locked[name]
    ] == []


def test_its_bill_is_valid_cyclonedx(image: Image, tmp_path: Path) -> None:
    jsonschema, referencing = needed_module("jsonschema"), needed_module("referencing")
    wheel = needed_wheel(Path(__file__).with_name("cyclonedx.txt"), tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        main, *others = (
            json.loads(archive.read(f"cyclonedx/schema/_res/{name}.SNAPSHOT.schema.json"))
            for name in ("bom-1.6", "spdx", "jsf-0.82")
        )
    registry = referencing.Registry().with_resources(
        (each["$id"], referencing.Resource.from_contents(each)) for each in (main, *others)
    )
    checker = jsonschema.Draft7Validator(main, registry=registry)
    assert [error.message for error in checker.iter_errors(bill(image))] == []
    assert [*checker.iter_errors({"bomFormat": "CycloneDX"})] != []


async def test_migrate_api_and_worker_take_one_job_to_its_end(
    image: Image, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    container = image.container()
    async with AsyncExitStack() as stack:
        _, postgres = await stack.enter_async_context(proxy_to(database_url))
        _, valkey = await stack.enter_async_context(redis_proxy_to(redis_url))
        given = {"DATABASE_URL": postgres, "REDIS_URL": valkey, "USA_MODEL": "offline"} | QUICK

        async def usa(*words: str) -> str:
            done = await asyncio.to_thread(container.run, ["usa", *words], **given)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert "0001" in await usa("migrate")
        key = json.loads(await usa("keys", "create", "--tenant", "a", "--user", "b", "--json"))
        port, ports = free_port(), {"api": free_port(), "worker": free_port()}
        processes = {
            command: start(
                container,
                command,
                tmp_path,
                {**given, "PORT": str(port), "USA_METRICS_PORT": str(ports[command])},
            )
            for command in ports
        }
        try:
            for command, process in processes.items():
                await process.ready()
                assert_is_confined(process.popen.pid)
                assert await asyncio.to_thread(is_healthy, image, ports[command])
            assert not await asyncio.to_thread(is_healthy, image, free_port())

            async with ApiClient(f"http://127.0.0.1:{port}", key["key"]) as client:
                accepted = await client.submit(_STORY, iterations=["validation"])
                job = await client.wait(UUID(accepted["job"]["id"]), within=60)
            assert job["status"] == "completed"

            for process in processes.values():
                process.send(signal.SIGTERM)
                assert await process.ended() == 0, process.log_path.read_text()
        finally:
            for process in processes.values():
                process.kill()


def start(
    container: Confinement, command: str, folder: Path, environment: Mapping[str, str]
) -> ServiceProcess:
    """Start the image's entry point with a command, as a container runtime would."""
    program = container.program(["usa"], **environment)
    return ServiceProcess(command, {}, folder / f"{command}.log", program=program)


def is_healthy(image: Image, port: int) -> bool:
    """Whether the health check of an image is content with what has this port for monitoring."""
    kind, *words = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    return image.container().run(words, USA_METRICS_PORT=str(port)).returncode == 0


def assert_is_confined(pid: int) -> None:
    """Check that a process is nobody, can become nobody else, and cannot write to its root."""
    rights = rights_of(pid)
    assert rights["Uid"].split() == rights["Gid"].split() == ["10001"] * 4
    assert rights["Groups"].strip() == ""
    assert rights["NoNewPrivs"] == "1"
    assert int(rights["CapEff"], 16) == int(rights["CapBnd"], 16) == 0
    assert is_read_only(pid)
