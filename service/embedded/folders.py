"""The folders of embedded servers: a home that lasts, and a short-lived one for sockets."""

import os
import shutil
import tempfile
from pathlib import Path

from service.embedded.errors import EmbeddedServerError

LONGEST_SOCKET_PATH = 103  # bytes; Linux takes 107, macOS 103
LONGEST_SOCKET_NAME = ".s.PGSQL.5432"
PREFIX = "usa-"


def make_home(home: Path) -> Path:
    """Create the private folder that keeps data across runs, and return its absolute path."""
    home = home.absolute()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(home, os.W_OK | os.X_OK):
            raise PermissionError("no permission to write there")
    except OSError as error:
        raise EmbeddedServerError(f"cannot keep data in {home}: {error}") from error
    return home


def make_socket_folder() -> Path:
    """Create a private folder whose path is short enough for a socket, however deep the home is."""
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - mkdtemp makes it private
        longest = parent / f"{PREFIX}12345678" / LONGEST_SOCKET_NAME
        if len(os.fsencode(longest)) <= LONGEST_SOCKET_PATH and os.access(parent, os.W_OK):
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    raise EmbeddedServerError(
        f"no temporary folder with a path short enough for a socket: {tempfile.gettempdir()}"
    )


def remove_socket_folder(folder: Path) -> None:
    """Remove a folder of `make_socket_folder`; any other, or one not ours, is left alone."""
    removable = folder.is_dir() and not folder.is_symlink() and os.access(folder, os.W_OK)
    if removable and folder.name.startswith(PREFIX):
        shutil.rmtree(folder)
