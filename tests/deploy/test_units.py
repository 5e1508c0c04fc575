"""The units of systemd, installed as deploy/README.md says, run a job on a machine of their own."""

import asyncio
import json
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import pytest

from service.cli.variables import describe_fields
from service.client.api_client import ApiClient
from tests.fixtures.confinement import is_read_only, rights_of
from tests.fixtures.debian import debian_archive, ways_to_pypi
from tests.fixtures.processes import QUICK, ServiceProcess
from tests.fixtures.proxy import proxy_to, redis_proxy_to
from tests.fixtures.readme import ROOT, commands_under
from tests.fixtures.strangers import free_port
from tests.fixtures.tools import needed_program, needed_root
from tests.fixtures.units import Unit

pytestmark = pytest.mark.timeout(600)

_INSTALL, _START, _UPGRADE = commands_under("systemd", (ROOT / "deploy" / "README.md").read_text())
_EXAMPLES = ROOT / "deploy" / "systemd"
_CHECKOUT = "root/checkout"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a new user's machine has and a root folder lacks.
_FOLLOW = f"""set -e
mount -t proc proc "$1/proc"
exec chroot "$1" env -i HOME=/root PATH={_PATH} bash -euc "cd /{_CHECKOUT}; $2"
"""
_STORY = "As a user, I want to log in"


@pytest.fixture(scope="module")
def machine() -> Iterator[Path]:
    """The root folder of a Debian on which somebody has followed the installation."""
    needed_root()
    with TemporaryDirectory(prefix="usa-machine-") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        subprocess.run(["tar", "-x", "-f", str(debian_archive()), "-C", str(root)], check=True)
        for there, path in ways_to_pypi(Path(folder)).items():
            shutil.copy(path, root / there.removeprefix("/"))
        checkout = root / _CHECKOUT
        checkout.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, checkout)
        for name in ("requirements", "service", "deploy"):
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, checkout / name, ignore=unwanted)
        follow = ["unshare", "--mount", "sh", "-c", _FOLLOW, "follow", str(root), _INSTALL]
        done = subprocess.run(follow, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        # Units of ours order themselves between those that every systemd has.
        shutil.copytree(
            "/lib/systemd/system", root / "lib/systemd/system", symlinks=True, dirs_exist_ok=True
        )
        yield root


def started() -> list[str]:
    """Return the units that a new user is told to start."""
    [line] = [line for line in _START.splitlines() if line.startswith("systemctl enable")]
    return [f"{name}.service" for name in shlex.split(line)[3:]]


def test_systemd_has_nothing_to_say_about_our_units(machine: Path) -> None:
    analyze = [needed_program("systemd-analyze"), "verify", f"--root={machine}"]
    done = subprocess.run([*analyze, *started()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_finds_them_hardly_exposed(machine: Path) -> None:
    analyze = [needed_program("systemd-analyze"), "security", "--offline=yes", "--threshold=15"]
    for name in started():
        done = subprocess.run(
            [*analyze, f"--root={machine}", name], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_an_upgrade_migrates_and_then_restarts_one_after_the_other() -> None:
    restarts = re.findall(r"^systemctl restart (.*)$", _UPGRADE, re.MULTILINE)
    assert [f"{name}.service" for name in restarts] == ["usa-migrate.service", *started()]


def test_who_is_not_root_cannot_read_their_addresses_and_keys(machine: Path) -> None:
    for name in ("usa.env", "worker.env"):
        path = machine / "etc/usa" / name
        assert (path.owner(), path.stat().st_mode & 0o777) == ("root", 0o600)


def test_only_workers_get_the_key_of_claude_and_a_worker_has_time_to_hand_back(
    machine: Path,
) -> None:
    api, worker, *_ = (Unit(root=machine, name=name) for name in started())
    assert "/etc/usa/worker.env" in worker.values("EnvironmentFile")
    assert "/etc/usa/worker.env" not in api.values("EnvironmentFile")
    [seconds] = worker.values("TimeoutStopSec")
    assert float(worker.environment["USA_SHUTDOWN_GRACE"]) + 10 < float(seconds)


def test_every_variable_of_the_examples_is_a_setting() -> None:
    known = {name for each in describe_fields() for name in each["variables"]}
    for path in _EXAMPLES.glob("*.env"):
        given = re.findall(r"^#?([A-Z_]+)=", path.read_text(), re.MULTILINE)
        assert given != []
        assert set(given) <= known


async def test_each_unit_does_its_part_of_one_job(
    machine: Path, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    port, metrics, worker_metrics = free_port(), free_port(), free_port()
    async with AsyncExitStack() as stack:
        _, postgres = await stack.enter_async_context(proxy_to(database_url))
        _, valkey = await stack.enter_async_context(redis_proxy_to(redis_url))
        write(machine, "usa.env", DATABASE_URL=postgres, REDIS_URL=valkey, **QUICK)
        write(machine, "api.env", PORT=str(port), USA_METRICS_PORT=str(metrics))
        api = Unit(root=machine, name="usa-api.service")
        worker = Unit(root=machine, name=f"usa-worker@{worker_metrics}.service")
        [before] = {
            each for unit in (api, worker) for each in unit.values("Wants") if "usa" in each
        }

        migrate = Unit(root=machine, name=before)
        done = await asyncio.to_thread(migrate.confinement().run, migrate.command)
        assert done.returncode == 0, done.stderr
        key = await made_key(migrate)
        processes = [start(unit, tmp_path) for unit in (api, worker)]
        try:
            for process in processes:
                await process.ready()
                rights = rights_of(process.popen.pid)
                assert rights["Uid"].split()[0] != "0"
                assert rights["NoNewPrivs"] == "1"
                assert is_read_only(process.popen.pid)
            async with ApiClient(f"http://127.0.0.1:{port}", key) as client:
                accepted = await client.submit(_STORY, iterations=["validation"])
                job = await client.wait(UUID(accepted["job"]["id"]), within=60)
            assert job["status"] == "completed"
            for process in processes:
                process.send(signal.SIGTERM)
                assert await process.ended() == 0, process.log_path.read_text()
        finally:
            for process in processes:
                process.kill()


def write(machine: Path, name: str, **variables: str) -> None:
    """Change an environment file, as a new user would."""
    path = machine / "etc/usa" / name
    kept = path.read_text().splitlines() if path.exists() else []
    lines = [line for line in kept if line.partition("=")[0] not in variables]
    path.write_text("\n".join([*lines, *(f"{n}={v}" for n, v in variables.items())]) + "\n")


async def made_key(unit: Unit) -> str:
    """Make a key with the command of the page, and return it."""
    lines = _START.replace("\\\n", "").splitlines()
    [words] = [shlex.split(line) for line in lines if line.startswith("systemd-run ")]
    command = words[words.index("/opt/usa/bin/usa") :]
    done = await asyncio.to_thread(unit.confinement().run, [*command, "--json"])
    assert done.returncode == 0, done.stderr
    key: str = json.loads(done.stdout)["key"]
    return key


def start(unit: Unit, folder: Path) -> ServiceProcess:
    """Start what a unit would start, in the surroundings that it asks for."""
    *program, command = unit.command
    log = folder / f"{unit.name}.log"
    return ServiceProcess(command, {}, log, program=unit.confinement().program(program))
