"""`usa` as a person or a script runs it, in a folder of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fixtures.strangers import clean_environment
from tests.fixtures.waiting import eventually

ROOT = Path(__file__).parents[3]
STORY = "As a user, I want to log in"


@dataclass
class Done:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Standard output as one JSON document per line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Started:
    """A command that runs; its output goes into files, so that nobody has to read along."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        number = len(list(folder.glob("*.out")))
        self._out, self._err = folder / f"{number}.out", folder / f"{number}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "service", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._err.read_text()

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.popen.poll() is not None

    async def prints(self, text: str, *, within: float = 20.0) -> str:
        """Wait until standard output holds a text, and return all of it."""
        await eventually(
            lambda: text in self.out or self.has_ended, within=within, what=f"it prints {text!r}"
        )
        assert text in self.out, f"it ended with {self.popen.returncode}\n{self.err}"
        return self.out

    async def tells(self, text: str, *, within: float = 20.0) -> str:
        """Wait until standard error holds a text, and return all of it."""
        await eventually(
            lambda: text in self.err or self.has_ended, within=within, what=f"it tells {text!r}"
        )
        assert text in self.err, f"it ended with {self.popen.returncode}\n{self.err}"
        return self.err

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.popen.send_signal(number)

    async def ended(self, *, within: float = 40.0) -> Done:
        """How it ended, once it has."""
        await eventually(lambda: self.has_ended, within=within, what="it ends")
        return Done(self.popen.returncode, self.out, self.err)


@dataclass
class Usa:
    """Runs commands in `folder`, with nothing set but `variables`."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Where `usa up` keeps everything."""
        return self.folder / ".usa"

    @property
    def environment(self) -> dict[str, str]:
        """What commands see; temporary folders are made where tests can look for them."""
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        return {
            **clean_environment(),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(temporary),
            **self.variables,
        }

    def run(self, *arguments: str, story: str = "", **variables: str) -> Done:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            cwd=self.folder,
            env=self.environment | variables,
            input=story,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def submit(self, *options: str) -> str:
        """Submit a story and return the id of its job."""
        accepted = self.run("submit", "-", *options, "--json", story=STORY)
        assert accepted.code == 0, accepted.err
        job: str = accepted.document["job"]["id"]
        return job

    @contextmanager
    def started(self, *arguments: str) -> Iterator[Started]:
        """Start a command; whatever happens, it has ended after this block."""
        command = Started(list(arguments), self.folder, self.environment)
        try:
            yield command
        finally:
            command.popen.kill()
            command.popen.wait()


def processes_using(folder: Path) -> list[str]:
    """The command lines of living processes that name a folder, servers above all."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(os.fsencode(folder) in word for word in words):
            found.append(b" ".join(words).decode(errors="replace"))
    return found
