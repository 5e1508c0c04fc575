"""A Valkey (or Redis) server of our own."""

import signal
import socket
from pathlib import Path

from service.embedded.binaries import find_valkey
from service.embedded.folders import make_home
from service.embedded.process import Command, ServerProcess

CONNECT_SECONDS = 1.0


class EmbeddedValkey:
    """One server, data in `home`, socket in `sockets`; main thread only, blocking."""

    def __init__(
        self, home: Path, sockets: Path, *, binary: Path | None = None, durable: bool = True
    ) -> None:
        self._home = make_home(home)
        self._sockets = sockets
        self._binary = binary
        self._durable = durable
        self._process = ServerProcess("valkey", self._home, signal.SIGTERM, signal.SIGTERM)

    @property
    def url(self) -> str:
        """Address for redis-py; the same after every restart."""
        return f"unix://{self.socket}"

    @property
    def socket(self) -> Path:
        """Where the server listens while it runs."""
        return self._sockets / "valkey.sock"

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
        binary = find_valkey(self._binary)
        self._process.start(lambda _: self._command(binary), self._why_not_ready)

    def stop(self) -> None:
        """Let the server write its data out and end."""
        self._process.stop()

    def kill(self) -> None:
        """End the server the hard way, as a crash would."""
        self._process.kill()

    def restart(self) -> None:
        """Stop the server if it runs and start it on the same data and socket."""
        self.stop()
        self.start()

    def _command(self, binary: Path) -> Command:
        data = self._home / "valkey"
        data.mkdir(mode=0o700, exist_ok=True)
        options = {
            "--dir": str(data),
            "--port": "0",
            "--unixsocket": str(self.socket),
            "--unixsocketperm": "700",
            "--daemonize": "no",
            "--save": "",
            "--appendonly": "yes" if self._durable else "no",
            "--appendfsync": "everysec",
            # Evicting job entries to make room would only look like success.
            "--maxmemory-policy": "noeviction",
        }
        pairs = [word for option in options.items() for word in option]
        return Command([str(binary), *pairs])

    def _why_not_ready(self) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(CONNECT_SECONDS)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                answer = connection.recv(256)
            except OSError as error:
                return str(error)
        return "" if answer.startswith(b"+PONG") else answer.decode(errors="replace").strip()
