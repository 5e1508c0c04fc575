"""The log file of one embedded server."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO

TOO_LARGE_BYTES = 10_000_000
QUOTED_LINES = 12
QUOTED_BYTES = 8_192


@dataclass(frozen=True)
class LogFile:
    """A file that servers append to, across runs."""

    path: Path

    def begin(self) -> int:
        """Put a file grown too large aside, and return where the next run's output begins."""
        if not self.path.exists():
            self.path.touch(mode=0o600)
        elif self.path.stat().st_size > TOO_LARGE_BYTES:
            self.path.replace(self.path.with_suffix(".old.log"))
            self.path.touch(mode=0o600)
        return self.path.stat().st_size

    def open(self) -> IO[bytes]:
        """Return the file, open for a child to append to."""
        return self.path.open("ab")

    def quote(self, start: int) -> str:
        """Return the last lines written since `start`, under the file's name."""
        with self.path.open("rb") as log:
            log.seek(max(start, self.path.stat().st_size - QUOTED_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        shown = [f"  {line}" for line in lines[-QUOTED_LINES:]] or ["  (empty)"]
        return "\n".join([f"{self.path}:", *shown])
