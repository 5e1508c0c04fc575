"""The kinds of parent process that the embedded servers must work under."""

import functools
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import IO

import pytest

ROOT = Path(__file__).parents[3]
NOBODY = 65_534


@dataclass(frozen=True)
class Kind:
    """Who the parent is, and whether its kernel gives it user namespaces."""

    name: str
    user: int | None = None
    namespaces: bool = True

    def start(self, home: Path) -> subprocess.Popen[str]:
        """Start the parent process; its first line of output tells of its servers."""
        options = [] if self.namespaces else ["--no-namespaces"]
        return subprocess.Popen(
            [
                interpreter(self.user),
                "-m",
                "tests.integration.embedded.parent",
                str(home),
                *options,
            ],
            cwd=ROOT,
            env=os.environ
            | {
                "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
                "TMPDIR": str(sockets_beside(home)),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
        )

    @contextmanager
    def home(self) -> Iterator[Path]:
        """A folder whose parents let everybody through, owned by the parent's user."""
        outer = Path(tempfile.mkdtemp(prefix="test-"))
        outer.chmod(0o755)
        home = outer / "home"
        home.mkdir(mode=0o700)
        sockets_beside(home).mkdir()
        if self.user is not None:
            os.chown(home, self.user, self.user)
            os.chown(sockets_beside(home), self.user, self.user)
        yield home
        rmtree(outer)


def sockets_beside(home: Path) -> Path:
    """Return where the parent's temporary folders go, so that none stays after the test."""
    return home.with_name("sockets")


@functools.cache
def interpreter(user: int | None) -> str:
    """Return a Python that the user can run; skips the test when there is none."""
    if user is None:
        return sys.executable
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        check = [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run(check, user=user, check=False, capture_output=True).returncode == 0:
                return candidate
        except (FileNotFoundError, PermissionError):
            continue
    pytest.skip("no Python 3.11 that user nobody can run")


_only_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")

KINDS = [
    pytest.param(Kind("ourselves"), id="ourselves"),
    pytest.param(Kind("nobody", user=NOBODY), id="nobody", marks=_only_root),
    pytest.param(
        Kind("root-without-namespaces", namespaces=False),
        id="root-without-namespaces",
        marks=_only_root,
    ),
]


def first_line(stream: IO[str] | None) -> str:
    """Read one line from a process's pipe."""
    assert stream is not None
    return stream.readline()
