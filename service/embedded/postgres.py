"""A PostgreSQL server of our own."""

import signal
from pathlib import Path

from service.embedded.binaries import PostgresBinaries, find_postgres
from service.embedded.clusters import create_cluster
from service.embedded.folders import make_home
from service.embedded.identities import choose_identity
from service.embedded.process import Command, ServerProcess
from service.embedded.wire import StatementRefusedError, run_statement

USER = "app"
DATABASE = "usa"
PORT = 5432
SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Commits stay synchronous: what was answered must be there after the server itself was killed.
CARELESS = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One server with its data in `home` and its socket in `sockets`; main thread only, blocking.

    With `durable=False` a crash of the machine may corrupt the data, one of the server not.
    `binaries` is a folder that holds `postgres` and `initdb`.
    """

    def __init__(
        self, home: Path, sockets: Path, *, binaries: Path | None = None, durable: bool = True
    ) -> None:
        self._home = make_home(home)
        self._data = self._home / "postgres"
        self._sockets = sockets
        self._binaries = binaries
        self._durable = durable
        # SIGINT is the fast shutdown; SIGTERM would wait for clients to leave.
        self._process = ServerProcess("postgres", self._home, signal.SIGINT, signal.SIGINT)

    @property
    def url(self) -> str:
        """Address of the database for asyncpg; the same after every restart."""
        return f"postgresql://{USER}@/{DATABASE}?host={self._sockets}&port={PORT}"

    @property
    def socket(self) -> Path:
        """Where the server listens while it runs."""
        return self._sockets / f".s.PGSQL.{PORT}"

    @property
    def pid(self) -> int:
        """Process id; RuntimeError when the server was not started or was stopped."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not ended, by whatever cause."""
        return self._process.is_running

    def start(self) -> None:
        """Start the server and wait until it answers; EmbeddedServerError when it does not."""
        binaries = find_postgres(self._binaries)
        self._process.start(lambda lock: self._prepare(binaries, lock), self._why_not_ready)

    def stop(self) -> None:
        """Disconnect all clients, write the data out and end."""
        self._process.stop()

    def kill(self) -> None:
        """End the server the hard way, as a crash would."""
        self._process.kill()

    def restart(self) -> None:
        """Stop the server if it runs and start it on the same data and socket."""
        self.stop()
        self.start()

    def _prepare(self, binaries: PostgresBinaries, lock: int) -> Command:
        identity = choose_identity(binaries.postgres, self._home)
        if not self._data.exists():
            create_cluster(binaries, self._data, identity, self._process.log, lock)
        identity.adopt(self._data)
        identity.adopt(self._sockets)
        # We hold the lock, so its writer is gone; its pid may by now be another process of ours.
        self._data.joinpath("postmaster.pid").unlink(missing_ok=True)
        settings = SETTINGS | {"unix_socket_directories": str(self._sockets)}
        if not self._durable:
            settings |= CARELESS
        options = [word for name in settings for word in ("-c", f"{name}={settings[name]}")]
        return Command([str(binaries.postgres), "-D", str(self._data), *options], identity.name)

    def _why_not_ready(self) -> str:
        exists = f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"  # noqa: S608 - a constant
        try:
            if run_statement(self.socket, USER, "postgres", exists) == 0:
                run_statement(self.socket, USER, "postgres", f"CREATE DATABASE {DATABASE}")
        except (OSError, StatementRefusedError) as error:
            return str(error)
        return ""
