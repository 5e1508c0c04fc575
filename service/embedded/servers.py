"""Both servers as one thing: started together, stopped in order, one owner per home folder."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from service.embedded.errors import EmbeddedServerError
from service.embedded.folders import make_home, make_socket_folder, remove_socket_folder
from service.embedded.locks import read_note, take_lock, write_note
from service.embedded.postgres import EmbeddedPostgres
from service.embedded.valkey import EmbeddedValkey

_OWNER_LOCK = "owner.lock"
_LINES_OF_NOTE = 2


@dataclass(frozen=True)
class Urls:
    """Where the two servers are reached."""

    redis_url: str
    database_url: str


@dataclass(frozen=True)
class RunningServers:
    """Where servers of ours are reached; None for one that does not run."""

    redis_url: str | None = None
    database_url: str | None = None


def find_running_servers(home: Path) -> RunningServers:
    """Return the addresses of the servers that another process of ours runs in `home`."""
    note = read_note(home / _OWNER_LOCK)
    if len(note) < _LINES_OF_NOTE:
        return RunningServers()
    sockets = Path(note[1])
    valkey, postgres = EmbeddedValkey(home, sockets), EmbeddedPostgres(home, sockets)
    return RunningServers(
        valkey.url if valkey.socket.exists() else None,
        postgres.url if postgres.socket.exists() else None,
    )


class EmbeddedServers:
    """Valkey and PostgreSQL with their data in `home`; main thread only, blocking.

    A server whose address is passed in is not started. `postgres_binaries` is a folder.
    """

    def __init__(
        self,
        home: Path,
        *,
        redis_url: str | None = None,
        database_url: str | None = None,
        durable: bool = True,
        valkey_binary: Path | None = None,
        postgres_binaries: Path | None = None,
    ) -> None:
        self._home = home
        self._redis_url = redis_url
        self._database_url = database_url
        self._durable = durable
        self._valkey_binary = valkey_binary
        self._postgres_binaries = postgres_binaries
        self._cleanups = ExitStack()
        self.valkey: EmbeddedValkey | None = None
        self.postgres: EmbeddedPostgres | None = None

    def start(self) -> Urls:
        """Start what is not given and return both addresses; on an error nothing stays behind."""
        with ExitStack() as cleanups:
            home = make_home(self._home)
            lock, stale_sockets = self._own(home)
            cleanups.callback(os.close, lock)
            sockets = make_socket_folder()
            cleanups.callback(remove_socket_folder, sockets)
            write_note(lock, os.getpid(), sockets)
            cleanups.callback(write_note, lock)
            urls = Urls(
                self._redis_url or self._start_valkey(home, sockets, cleanups),
                self._database_url or self._start_postgres(home, sockets, cleanups),
            )
            if stale_sockets:
                # Only now: servers of a killed run used it until their locks were ours.
                remove_socket_folder(stale_sockets)
            self._cleanups = cleanups.pop_all()
        return urls

    def stop(self) -> None:
        """Stop PostgreSQL, then Valkey, each within a bounded time, and remove their sockets."""
        self._cleanups.close()

    def __enter__(self) -> Self:
        """Start the servers."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the servers."""
        self.stop()

    def _own(self, home: Path) -> tuple[int, Path | None]:
        """Return the lock on the home folder and the socket folder its last owner left."""
        path = home / _OWNER_LOCK
        note = read_note(path)
        lock = take_lock(path)
        if lock is None:
            pid = note[0] if note else "unknown"
            raise EmbeddedServerError(f"another `usa up` uses this folder (pid {pid}): {home}")
        return lock, Path(note[1]) if len(note) == _LINES_OF_NOTE else None

    def _start_valkey(self, home: Path, sockets: Path, cleanups: ExitStack) -> str:
        self.valkey = EmbeddedValkey(
            home, sockets, binary=self._valkey_binary, durable=self._durable
        )
        self.valkey.start()
        cleanups.callback(self.valkey.stop)
        return self.valkey.url

    def _start_postgres(self, home: Path, sockets: Path, cleanups: ExitStack) -> str:
        self.postgres = EmbeddedPostgres(
            home, sockets, binaries=self._postgres_binaries, durable=self._durable
        )
        self.postgres.start()
        cleanups.callback(self.postgres.stop)
        return self.postgres.url
