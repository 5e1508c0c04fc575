"""Locks on files that the kernel releases when the last process holding them ends."""

import fcntl
import os
import time
from pathlib import Path

POLL_SECONDS = 0.01


def take_lock(path: Path, patience: float = 0.0) -> int | None:
    """Return a descriptor that holds the lock, or None when it stays taken for `patience` seconds.

    Children that inherit the descriptor hold the lock too, until the last of them has ended.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(POLL_SECONDS)
        else:
            return descriptor


def write_note(descriptor: int, *lines: object) -> None:
    """Replace what the locked file says about its holder."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, "\n".join(str(line) for line in lines).encode(), 0)


def read_note(path: Path) -> list[str]:
    """Return the lines the last holder wrote; empty when there was none."""
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []
