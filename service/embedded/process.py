"""One server as a child process that ends with its parent at the latest."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from service.embedded import trampoline
from service.embedded.errors import EmbeddedServerError
from service.embedded.locks import read_note, take_lock, write_note
from service.embedded.logs import LogFile

SAME_IDENTITY = "same"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
LEFTOVER_SECONDS = 15.0
POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Command:
    """What to run, and as whom (an identity of the trampoline)."""

    arguments: list[str]
    identity: str = SAME_IDENTITY


@dataclass
class ServerProcess:
    """A server that can be started, stopped, killed and started again, by one thread."""

    name: str
    home: Path
    stop_signal: signal.Signals
    death_signal: signal.Signals
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> LogFile:
        """Where the server's output goes."""
        return LogFile(self.home / f"{self.name}.log")

    @property
    def pid(self) -> int:
        """Process id; RuntimeError when the server was not started or was stopped."""
        if self._child is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not ended, by whatever cause."""
        return self._child is not None and self._child.poll() is None

    def start(self, prepare: Callable[[int], Command], why_not_ready: Callable[[], str]) -> None:
        """Start what `prepare` returns and wait until `why_not_ready` has nothing to say.

        `prepare` runs while no other process uses the data and gets the descriptor of the lock.
        """
        if self.is_running:
            raise RuntimeError(f"{self.name} is already running")
        log_start = self.log.begin()
        lock = self._lock_data()
        try:
            self._child = spawn(prepare(lock), self.log, self.death_signal, lock)
            write_note(lock, self._child.pid)
        finally:
            # The child holds the lock from here on, and so do its own children.
            os.close(lock)
        try:
            self._wait_until_ready(why_not_ready, log_start)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask the server to end, if it runs; after a bounded time, kill it."""
        if self._child is None:
            return
        self._child.send_signal(self.stop_signal)
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
        self._reap()

    def kill(self) -> None:
        """End the server the hard way, as a crash would."""
        if self._child is not None:
            self._child.kill()
            self._reap()

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait()
            self._child = None

    def _lock_data(self) -> int:
        path = self.home / f"{self.name}.lock"
        # A run that was just killed may still be writing its data out; that is worth waiting for.
        lock = take_lock(path, LEFTOVER_SECONDS)
        if lock is None:
            pid = (read_note(path) or ["unknown"])[0]
            raise EmbeddedServerError(f"another {self.name} server uses {self.home} (pid {pid})")
        return lock

    def _wait_until_ready(self, why_not_ready: Callable[[], str], log_start: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.is_running:
            reason = why_not_ready()
            if not reason:
                return
            if time.monotonic() >= deadline:
                self._fail(f"was not ready after {START_SECONDS:.0f} s: {reason}", log_start)
            time.sleep(POLL_SECONDS)
        self._fail("ended while starting", log_start)

    def _fail(self, what: str, log_start: int) -> None:
        raise EmbeddedServerError(f"{self.name} {what}\n{self.log.quote(log_start)}")


def spawn(
    command: Command, log: LogFile, death_signal: signal.Signals, lock: int
) -> subprocess.Popen[bytes]:
    """Start a child that dies with us and holds `lock`; only from the main thread.

    The kernel binds the child's life to the thread that started it, not to the process.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("embedded servers must be started from the main thread")
    with log.open() as output:
        return subprocess.Popen(
            trampoline_command(command.arguments, command.identity, death_signal),
            cwd="/",
            env=child_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A session of its own: Ctrl-C at the terminal must not outrun our own ordered stop.
            start_new_session=True,
            pass_fds=[lock],
        )


def trampoline_command(
    arguments: list[str],
    identity: str = SAME_IDENTITY,
    death_signal: signal.Signals = signal.SIGKILL,
) -> list[str]:
    """Return the command that becomes `arguments` and dies with this process."""
    script = Path(trampoline.__file__).resolve()
    parent = str(os.getpid())
    interpreter = [sys.executable, "-I", "-S", str(script)]
    return [*interpreter, parent, str(int(death_signal)), identity, *arguments]


def child_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without what would change a server's port, locale or zone."""
    kept = {name: value for name, value in ours.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}
